"""Is a force the slope of an energy, and is there an energy at all?"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

STEPS: Final = (1.0, -1.0, 0.5, -0.5)  # in units of the step, in the order that `slope` wants energies
# Standard deviation of `slope` for independent errors of one unit in the energies, times the step.
SLOPE_NOISE: Final = float(np.sqrt(2.0 * (4.0 / 3.0) ** 2 + 2.0 * (1.0 / 6.0) ** 2))
THREE_STEPS: Final = (*STEPS, 0.25, -0.25)  # likewise, for `slopes`
# Likewise for the three of `slopes`: (64 D(h/4) - 20 D(h/2) + D(h)) / 45 is the last one, D(h) of sqrt(1/2) / h.
SLOPES_NOISE: Final = (SLOPE_NOISE, 2.0 * SLOPE_NOISE, float(np.sqrt(2.0 * 128.0**2 + 2.0 * 20.0**2 + 0.5) / 45.0))


def slope(values: Float, step: float) -> Float:
    """Return the derivative from two central differences, extrapolated to a step of zero.

    The error is of fourth order in the step.

    Args:
        values: shape (..., 4), at `STEPS` times the step.
        step: in the units of the result's denominator.

    Source: L. F. Richardson, Phil. Trans. R. Soc. A 210, 307 (1911).

    It is exact up to the fourth power:

    >>> x = 2.0 + 0.5 * np.array(STEPS)
    >>> round(float(slope(x**4, 0.5)), 12)
    32.0
    """
    wide = (values[..., 0] - values[..., 1]) / (2.0 * step)
    narrow = (values[..., 2] - values[..., 3]) / step
    return np.asarray((4.0 * narrow - wide) / 3.0)


def slopes(values: Float, step: float) -> Float:
    """Return three derivatives from three central differences, each from more of them, extrapolated to a step of zero.

    The last one less either of the others bounds the truncation of that one, and the last one's is far below it.

    Args:
        values: shape (..., 6), at `THREE_STEPS` times the step.
        step: in the units of the result's denominator.

    Returns:
        Shape (..., 3): from the two wider differences and from the two narrower ones, with errors of fourth order in
        the step, and from all three, with an error of sixth order.

    Source: W. Romberg, Det Kgl. Norske Videnskabers Selskab Forhandlinger 28, 30 (1955).

    The last one is exact up to the sixth power, the others up to the fourth:

    >>> x = 1.0 + 0.5 * np.array(THREE_STEPS)
    >>> [round(float(found), 6) for found in slopes(x**5, 0.5)]
    [4.984375, 4.999023, 5.0]
    """
    wide, narrow = slope(values[..., :4], step), slope(values[..., 2:], 0.5 * step)
    return np.stack([wide, narrow, (16.0 * narrow - wide) / 15.0], axis=-1)


def antisymmetry(jacobian: Float) -> float:
    """Return ‖(J - Jᵀ)/2‖ / ‖J‖: 0 for the second derivatives of an energy, 1 for a pure rotation; 0 of nothing.

    Args:
        jacobian: shape (n, n), derivative of force component i along coordinate j.

    Source: F. Bigi, M. Langer, M. Ceriotti, arXiv:2412.11569 (2024).

    >>> antisymmetry(np.array([[2.0, 1.0], [1.0, 3.0]])), antisymmetry(np.array([[0.0, 1.0], [-1.0, 0.0]]))
    (0.0, 1.0)
    """
    size = float(np.linalg.norm(jacobian))
    return float(np.linalg.norm(jacobian - jacobian.T)) / (2.0 * size) if size > 0.0 else 0.0


def loop_work(forces: Float, velocities: Float) -> tuple[float, float]:
    """Return the work around a closed curve, and the work done on the way regardless of its sign.

    Args:
        forces: shape (n_points, n), at evenly spaced times of one round, eV/Å.
        velocities: shape (n_points, n), of the curve there, in Å per round.

    Returns:
        Both in eV. The trapezoid rule that gives them converges faster than any power for smooth closed curves
        (L. N. Trefethen & J. A. C. Weideman, SIAM Rev. 56, 385 (2014)).

    Once around the unit circle in a field that turns, F = (-y, x), and in a central one, F = (-x, -y):

    >>> t = 2 * np.pi * np.arange(8) / 8
    >>> circle = np.stack([np.cos(t), np.sin(t)], axis=1)
    >>> along = 2 * np.pi * np.stack([-np.sin(t), np.cos(t)], axis=1)
    >>> turning = np.stack([-circle[:, 1], circle[:, 0]], axis=1)
    >>> round(loop_work(turning, along)[0] / np.pi, 12), round(loop_work(-circle, along)[0], 12) + 0.0
    (2.0, 0.0)
    """
    power = (forces * velocities).sum(axis=1)
    return float(power.mean()), float(np.abs(power).mean())
