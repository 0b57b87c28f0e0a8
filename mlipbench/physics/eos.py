"""Which energy belongs to which volume, and how far are two such curves apart?

Birch and Murnaghan's equation of state of third order, per atom:

paper   code         meaning
V0      volume       volume of least energy, Å^3
E0      energy       energy there, eV
B0      modulus      bulk modulus there, V d²E/dV², eV/Å^3
B1      derivative   dB/dP there, without unit
w       strain       (V0/V)^(2/3) − 1

    E(V) = E0 + 9 B0 V0 / 16 · (2 w² + (B1 − 4) w³)

This is the same as any cubic polynomial in V^(-2/3) that has a minimum, so that a fit is linear.

Source: F. Birch, Phys. Rev. 71, 809 (1947); the fit and the measure of distance as in K. Lejaeghere, V. Van Speybroeck,
G. Van Oost, S. Cottenier, Crit. Rev. Solid State Mater. Sci. 39, 1 (2014), doi:10.1080/10408436.2013.772503.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlipbench.errors import BadInput

Float = NDArray[np.float64]

DELTA_STRAIN: Final = 0.06
N_NODES: Final = 12  # of the quadrature: exact for polynomials of degree 23
LEAST_VOLUMES: Final = 5  # four coefficients, and one to see whether they fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """An equation of state, per atom.

    Attributes:
        volume_A3: of least energy.
        modulus_eV_per_A3: bulk modulus there.
        derivative: of the bulk modulus with respect to pressure, there.
        energy_eV: there.
    """

    volume_A3: float
    modulus_eV_per_A3: float
    derivative: float
    energy_eV: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What least squares made of some energies.

    Attributes:
        curve: None where the fitted polynomial has no minimum at any volume.
        is_inside: does the minimum lie between the smallest and the largest volume?
        residual_eV: root mean square of what is left of the energies.
        scatter_eV: their standard deviation, for comparison.
        falls_inward: is the energy at the smallest volume less than that at the largest?
    """

    curve: Curve | None
    is_inside: bool
    residual_eV: float
    scatter_eV: float
    falls_inward: bool


def energy(curve: Curve, volume_A3: Float) -> Float:
    """Return the energy in eV per atom at some volumes, Å^3 per atom, of any shape.

    >>> curve = Curve(volume_A3=20.0, modulus_eV_per_A3=0.5, derivative=4.5, energy_eV=-3.0)
    >>> float(energy(curve, np.array(20.0)))
    -3.0
    """
    return curve.energy_eV + _above_minimum(curve, volume_A3)


def _above_minimum(curve: Curve, volume_A3: Float) -> Float:
    w = (curve.volume_A3 / volume_A3) ** (2 / 3) - 1.0
    scale = 9.0 / 16.0 * curve.modulus_eV_per_A3 * curve.volume_A3
    return np.asarray(scale * (2.0 * w**2 + (curve.derivative - 4.0) * w**3))


def pressure(curve: Curve, volume_A3: Float) -> Float:
    """Return the pressure −dE/dV in eV/Å^3 at some volumes, Å^3 per atom, of any shape.

    >>> curve = Curve(volume_A3=20.0, modulus_eV_per_A3=0.5, derivative=4.5)
    >>> float(pressure(curve, np.array(20.0)))
    0.0
    """
    ratio = (curve.volume_A3 / volume_A3) ** (1 / 3)
    bend = 1.0 + 0.75 * (curve.derivative - 4.0) * (ratio**2 - 1.0)
    return np.asarray(1.5 * curve.modulus_eV_per_A3 * (ratio**7 - ratio**5) * bend)


def fit(volume_A3: Float, energy_eV: Float) -> Fit:
    """Fit the four parameters by linear least squares.

    Args:
        volume_A3: shape (n,), per atom; five different ones at least.
        energy_eV: shape (n,), per atom.

    Raises:
        BadInput: there are fewer volumes, or one is not positive.

    A curve is recovered from its own energies:

    >>> curve = Curve(volume_A3=20.0, modulus_eV_per_A3=0.5, derivative=4.5, energy_eV=-3.0)
    >>> volume = np.linspace(18.8, 21.2, 7)
    >>> found = fit(volume, energy(curve, volume)).curve
    >>> round(found.volume_A3, 6), round(found.modulus_eV_per_A3, 6), round(found.derivative, 4)
    (20.0, 0.5, 4.5)
    """
    if len(np.unique(volume_A3)) < LEAST_VOLUMES or volume_A3.min() <= 0.0:
        raise BadInput(
            f"an equation of state needs {LEAST_VOLUMES} different positive volumes or more; got {volume_A3.tolist()}"
        )
    # About a volume in the middle, for the sake of digits.
    middle_A3 = float(np.mean(volume_A3))
    u = (middle_A3 / volume_A3) ** (2 / 3) - 1.0
    zero_eV = float(np.mean(energy_eV))
    powers = np.vander(u / np.abs(u).max(), 4, increasing=True)
    scaled = np.linalg.lstsq(powers, energy_eV - zero_eV, rcond=None)[0]
    residual = energy_eV - zero_eV - powers @ scaled
    curve = _curve(scaled / np.abs(u).max() ** np.arange(4), middle_A3, zero_eV)
    return Fit(
        curve=curve,
        is_inside=curve is not None and bool(volume_A3.min() <= curve.volume_A3 <= volume_A3.max()),
        residual_eV=float(np.sqrt(np.mean(residual**2))),
        scatter_eV=float(np.std(energy_eV)),
        falls_inward=bool(energy_eV[np.argmin(volume_A3)] < energy_eV[np.argmax(volume_A3)]),
    )


def _curve(c: Float, middle_A3: float, zero_eV: float) -> Curve | None:
    """Return the curve that a cubic polynomial c0 + c1 u + c2 u² + c3 u³, u = (middle/V)^(2/3) − 1, is, if any."""
    discriminant = c[2] ** 2 - 3.0 * c[1] * c[3]
    if discriminant <= 0.0:
        return None
    half_bend = float(np.sqrt(discriminant))  # half the second derivative at the minimum
    if c[2] <= 0.0 and c[3] == 0.0:
        return None
    # Two forms of one root of the first derivative; each is free of differences of like numbers on its side.
    u = -c[1] / (c[2] + half_bend) if c[2] > 0.0 else (half_bend - c[2]) / (3.0 * c[3])
    if u <= -1.0:
        return None
    volume_A3 = float(middle_A3 * (1.0 + u) ** -1.5)
    return Curve(
        volume_A3=volume_A3,
        modulus_eV_per_A3=float(8.0 / 9.0 * half_bend * (1.0 + u) ** 2 / volume_A3),
        derivative=float(4.0 + 2.0 * c[3] * (1.0 + u) / half_bend),
        energy_eV=float(zero_eV + c[0] + u * (c[1] + u * (c[2] + u * c[3]))),
    )


def delta(one: Curve, other: Curve, *, strain: float = DELTA_STRAIN) -> float:
    """Return Δ in eV per atom: how far two curves are apart, each with zero energy at its own minimum.

    Δ² is the mean of (E1 − E2)² over volumes from (1 − strain) to (1 + strain) times the mean of the two V0. The
    integral of that polynomial in V^(-2/3) has a closed form, but its terms cancel to a few digits where curves are
    alike; Gauss and Legendre's rule gives it to round-off.

    Args:
        one: a curve.
        other: a curve.
        strain: half the width of the range of volumes.

    Source: Lejaeghere et al. (2014), above; the range is that of version 3 of its authors' program.

    >>> curve = Curve(volume_A3=20.0, modulus_eV_per_A3=0.5, derivative=4.5)
    >>> delta(curve, curve)
    0.0
    """
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
    volume_A3 = 0.5 * (one.volume_A3 + other.volume_A3) * (1.0 + strain * nodes)
    apart = _above_minimum(one, volume_A3) - _above_minimum(other, volume_A3)
    return float(np.sqrt(0.5 * weights @ apart**2))
