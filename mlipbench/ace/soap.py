"""The smooth overlap of atomic positions: its hyperparameters, and the radial tables that follow from them.

Source: Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115 (2013), with its erratum on the factor (2l + 1)^-1/2.
"""

# paper      code               meaning
# σ          sigma_A            width of the Gaussian on each atom
# R_nl(r)    _functions         radial functions, orthonormal with the weight r²
# f_nl(r_j)  expansion          c_nlm = Σ_j w(r_j) f_nl(r_j) Y_lm(r_j / |r_j|), with
#                               f_nl(r_j) = 4π ∫ R_nl(r) exp(-(r² + r_j²) / 2σ²) i_l(r r_j / σ²) r² dr
# i_l        _bessel            modified spherical Bessel function of the first kind

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from mlipbench.core.model import Float
from mlipbench.errors import BadInput

_NODES = 8  # of the polynomial in each interval; it is right to about 1e-13
_STEPS_PER_SIGMA = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Soap:
    """Which power spectrum describes an atom's surroundings.

    The density Σ_j w(r_j) exp(-|r - r_j|² / 2σ²) of each element's atoms, the centre among them, is expanded as
    Σ c_znlm R_nl(r) Y_lm; features are (2l + 1)^-1/2 Σ_m c_znlm c_z'n'lm, each product of two channels (z, n) once.

    Attributes:
        numbers: atomic numbers covered, ascending.
        cutoff_A: where the radial functions end ("polynomial"), or the widest has faded to a thousandth ("gto").
        n_max: number of radial functions.
        l_max: largest angular number.
        sigma_A: width σ of the Gaussians.
        radial: "polynomial", (cutoff - r)^(n + 2), or "gto", r^l exp(-α_nl r²), both made orthonormal by Löwdin's
            method as they stand, with lengths in Å.
        transition_A: how long before the cutoff w falls from 1 to 0, twice differentiable; 0 for w = 1 up to `reach_A`.
        tail: with no transition, neighbours beyond the cutoff count while their Gaussian is at least that high there.
        central: weight of the centre's own Gaussian.
        overlap: whether products of two different channels carry the factor √2, so that the dot product of two spectra
            is the squared overlap of both densities, averaged over all rotations.

    Raises:
        BadInput: a value is out of range.
    """

    numbers: tuple[int, ...]
    cutoff_A: float = 4.5
    n_max: int = 8
    l_max: int = 4
    sigma_A: float = 0.5
    radial: Literal["polynomial", "gto"] = "polynomial"
    transition_A: float = 0.0
    tail: float = 1e-3
    central: float = 1.0
    overlap: bool = False

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        checks = (
            ("numbers", bool(self.numbers) and tuple(sorted(set(self.numbers))) == self.numbers and self.numbers[0] > 0,
             "distinct atomic numbers in ascending order"),
            ("cutoff_A", 1.0 < self.cutoff_A <= 20.0, "a distance above 1 Å, up to 20 Å"),
            ("n_max", 1 <= self.n_max <= 16, "a whole number from 1 to 16"),
            ("l_max", 0 <= self.l_max <= 12, "a whole number from 0 to 12"),
            ("sigma_A", 0.01 * self.cutoff_A <= self.sigma_A <= self.cutoff_A,
             "a distance from a hundredth of cutoff_A up to cutoff_A"),
            ("radial", self.radial in {"polynomial", "gto"}, "'polynomial' or 'gto'"),
            ("transition_A", 0.0 <= self.transition_A <= self.cutoff_A, "a distance up to cutoff_A, or 0 for none"),
            ("tail", 1e-12 <= self.tail <= 1.0, "a number from 1e-12 to 1"),
            ("central", 0.0 <= self.central < np.inf, "a number, not negative"),
        )  # fmt: skip
        for name, good, allowed in checks:
            if not good:
                raise BadInput(f"SOAP: {name} is {getattr(self, name)}; it must be {allowed}")

    @property
    def reach_A(self) -> float:
        """Distance beyond which atoms do not see each other.

        >>> Soap(numbers=(1,), transition_A=0.5).reach_A, round(Soap(numbers=(1,)).reach_A, 3)
        (4.5, 6.358)
        """
        if self.transition_A > 0:
            return self.cutoff_A
        return float(self.cutoff_A + self.sigma_A * np.sqrt(-2.0 * np.log(self.tail)))

    @property
    def n_features(self) -> int:
        """Length of the power spectrum.

        >>> Soap(numbers=(1, 6, 8), n_max=8, l_max=4).n_features
        1500
        """
        channels = len(self.numbers) * self.n_max
        return (self.l_max + 1) * channels * (channels + 1) // 2


class Smeared(NamedTuple):
    """The radial functions f_nl of a neighbour's Gaussian, as a polynomial of x = -1…1 in each interval of distance.

    Attributes:
        n_max: radial functions.
        step: length of an interval, Å.
        coefficients: shape (n_intervals, 8 · (l_max + 1) · n_max), by power from x^7 down, then by l, then by n.
        begin: distance from which neighbours fade, Å.
        transition: over which they fade, Å; 0 for not at all.
        centre: shape (n_max,), what the centre adds to c_00 of its own element.
        weights: shape (l_max + 1,), of the products of two channels.
        crossed: factor of products of two different channels.
    """

    n_max: int
    step: float
    coefficients: Float
    begin: float
    transition: float
    centre: Float
    weights: Float
    crossed: float


@lru_cache(maxsize=8)
def smeared(soap: Soap) -> Smeared:
    """Return the radial tables of a descriptor."""
    n_intervals = int(np.ceil(soap.reach_A / soap.sigma_A * _STEPS_PER_SIGMA))
    step = soap.reach_A / n_intervals
    nodes = np.cos((np.arange(_NODES) + 0.5) * np.pi / _NODES)
    distances = step * (np.arange(n_intervals)[:, None] + 0.5 + 0.5 * nodes)
    values = expansion(soap, distances.reshape(-1)).reshape(n_intervals, _NODES, -1)
    coefficients = np.einsum("pk,ikc->ipc", np.linalg.inv(np.vander(nodes)), values)
    angular = np.arange(soap.l_max + 1)
    return Smeared(
        n_max=soap.n_max,
        step=step,
        coefficients=np.ascontiguousarray(coefficients.reshape(n_intervals, -1)),
        begin=soap.cutoff_A - soap.transition_A,
        transition=float(soap.transition_A),
        centre=soap.central * expansion(soap, np.zeros(1))[0, : soap.n_max] / np.sqrt(4.0 * np.pi),
        weights=1.0 / np.sqrt(2.0 * angular + 1.0),
        crossed=float(np.sqrt(2.0)) if soap.overlap else 1.0,
    )


def expansion(soap: Soap, distances_A: Float) -> Float:
    """Return f_nl, what a neighbour at each distance adds to c_nlm beside Y_lm.

    Args:
        soap: the descriptor; its transition has no part in it.
        distances_A: shape (n,), not negative.

    Returns:
        Shape (n, (l_max + 1) · n_max), by l, then n.
    """
    radii, weights = _quadrature(soap)
    gaussian = np.exp(-0.5 * np.minimum(((distances_A[:, None] - radii) / soap.sigma_A) ** 2, 100.0))
    d, r = np.nonzero(gaussian > 1e-18)
    x = distances_A[d] * radii[r] / soap.sigma_A**2
    parts = []
    for angular in range(soap.l_max + 1):
        density = np.zeros_like(gaussian)
        density[d, r] = gaussian[d, r] * _bessel(angular, x)
        parts.append(4.0 * np.pi * density @ (weights * radii**2 * _functions(soap, angular)).T)
    return np.concatenate(parts, axis=1)


def _quadrature(soap: Soap) -> tuple[Float, Float]:
    """Return radii and weights, shape (n,), that resolve both the Gaussians and the radial functions."""
    from scipy.special import roots_legendre

    polynomial = soap.radial == "polynomial"
    end = soap.cutoff_A if polynomial else 3.0 * soap.cutoff_A  # all functions are at round-off there
    narrowest = soap.sigma_A if polynomial else min(soap.sigma_A, 0.25)  # the first of "gto" ends at 1 Å
    x, w = roots_legendre(64 + int(np.ceil(3.0 * end / narrowest)))
    return 0.5 * end * (x + 1.0), 0.5 * end * w


def _functions(soap: Soap, angular: int) -> Float:
    """Return the orthonormal radial functions at the radii of the quadrature, shape (n_max, n)."""
    radii, weights = _quadrature(soap)
    if soap.radial == "polynomial":
        primitives = (soap.cutoff_A - radii) ** np.arange(3, soap.n_max + 3)[:, None]
    else:
        ends = np.linspace(1.0, soap.cutoff_A, soap.n_max)[:, None]
        alpha = (np.log(1e3) + angular * np.log(ends)) / ends**2  # r^l exp(-α r²) = 1/1000 at its end
        primitives = radii**angular * np.exp(-alpha * radii**2)
    # Löwdin's S^-1/2 with S = G Gᵀ, without forming the nearly singular S: with G = U s V, S^-1/2 G is U V.
    scale = np.sqrt(weights) * radii
    left, _, right = np.linalg.svd(primitives * scale, full_matrices=False)
    return np.asarray((left @ right) / scale, dtype=np.float64)


def _bessel(angular: int, x: Float) -> Float:
    """Return exp(-x) i_l(x), the modified spherical Bessel function of the first kind.

    For l = 0 it is exp(-x) sinh(x) / x:

    >>> [round(float(x), 12) for x in (_bessel(0, np.array([2.0]))[0], np.exp(-2.0) * np.sinh(2.0) / 2.0)]
    [0.245421090278, 0.245421090278]
    """
    from scipy.special import ive

    safe = np.maximum(x, 1e-8)
    large = np.sqrt(0.5 * np.pi / safe) * ive(angular + 0.5, safe)
    if angular == 0:
        return np.where(x > 1e-8, large, 1.0)
    return np.where(x > 1e-8, large, 0.0)
