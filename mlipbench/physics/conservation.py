"""Is a force the slope of an energy, and is there an energy at all?"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

STEPS: Final = (1.0, -1.0, 0.5, -0.5)  # in units of the step, in the order that `slope` wants energies
# Standard deviation of `slope` for independent errors of one unit in the energies, times the step.
SLOPE_NOISE: Final = float(np.sqrt(2.0 * (4.0 / 3.0) ** 2 + 2.0 * (1.0 / 6.0) ** 2))


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
