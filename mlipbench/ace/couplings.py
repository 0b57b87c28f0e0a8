"""Real solid harmonics as monomial tables, and the real Wigner 3j couplings that go with them; numpy only.

Conventions: the polar axis is z, m runs from -l to l (sine, then cosine: l = 1 is y, z, x), there is no Condon-Shortley
phase, and the harmonics are orthonormal on the sphere.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import comb, factorial, perm, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from mlipbench.core.model import Float, Int

_Polynomial = dict[tuple[int, int, int], Fraction]  # powers of x, y, z → coefficient


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Harmonics:
    """Solid harmonics S_lm(x, y, z) = r^l Y_lm up to some l, harmonic k = l² + l + m.

    Attributes:
        powers: shape (n, 4), harmonic and powers of x, y, z of each monomial.
        coefficients: shape (n,), of each monomial.
        gradient: shape (g, 3), harmonic k, axis a and harmonic q in dS_k/dx_a = Σ_q c S_q.
        gradient_coefficients: shape (g,), the c.
    """

    powers: Int
    coefficients: Float
    gradient: Int
    gradient_coefficients: Float


def wigner_3j(l1: int, l2: int, l3: int, m1: int, m2: int, m3: int) -> float:
    """Return the Wigner 3j symbol by Racah's formula, exact up to one square root.

    Source: Racah, Phys. Rev. 62, 438 (1942), equation 16.

    >>> round(wigner_3j(1, 1, 0, 0, 0, 0) ** 2, 12)
    0.333333333333
    """
    if m1 + m2 + m3 or l3 > l1 + l2 or l3 < abs(l1 - l2) or abs(m1) > l1 or abs(m2) > l2 or abs(m3) > l3:
        return 0.0
    total = Fraction(0)
    for k in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
        below = factorial(k) * factorial(l1 + l2 - l3 - k) * factorial(l1 - m1 - k) * factorial(l2 + m2 - k)
        total += Fraction((-1) ** k, below * factorial(l3 - l2 + m1 + k) * factorial(l3 - l1 - m2 + k))
    square = Fraction(
        factorial(l1 + l2 - l3) * factorial(l1 - l2 + l3) * factorial(-l1 + l2 + l3), factorial(l1 + l2 + l3 + 1)
    )
    for degree, order in ((l1, m1), (l2, m2), (l3, m3)):
        square *= factorial(degree + order) * factorial(degree - order)
    sign = 1.0 if ((l1 - l2 - m3) % 2 == 0) == (total >= 0) else -1.0
    return sign * sqrt(square * total * total)


@lru_cache(maxsize=256)
def coupling(l1: int, l2: int, l3: int) -> Float:
    """Return W of shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) for which Σ W_abc Y_a Y_b Y_c is invariant under O(3).

    Zero unless l1 + l2 + l3 is even and the triangle closes; otherwise normalised to Σ W² = 1.

    >>> coupling(1, 1, 0)[:, :, 0].round(3).diagonal().tolist()
    [-0.577, -0.577, -0.577]
    """
    shape = (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)
    if (l1 + l2 + l3) % 2:
        return np.zeros(shape)
    symbol = np.zeros(shape, dtype=np.complex128)
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                symbol[m1 + l1, m2 + l2, l3 - m1 - m2] = wigner_3j(l1, l2, l3, m1, m2, -m1 - m2)
    turned = np.einsum("abc,ia,jb,kc->ijk", symbol, *(_complex_to_real(degree).conj() for degree in (l1, l2, l3)))
    real: Float = np.ascontiguousarray(turned.real)
    real[np.abs(real) < 1e-14] = 0.0
    return real


def _complex_to_real(degree: int) -> NDArray[np.complex128]:
    """Return U of shape (2l + 1, 2l + 1) with Y_real = U Y_complex, the complex ones with Condon-Shortley phase."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    matrix[degree, degree] = 1.0
    for m in range(1, degree + 1):
        sign = (-1.0) ** m
        matrix[degree + m, degree + m] = sign / sqrt(2)
        matrix[degree + m, degree - m] = 1 / sqrt(2)
        matrix[degree - m, degree + m] = -1j * sign / sqrt(2)
        matrix[degree - m, degree - m] = 1j / sqrt(2)
    return matrix


@lru_cache(maxsize=16)
def solid_harmonics(l_max: int) -> Harmonics:
    """Return the tables of all solid harmonics with l ≤ l_max and of their gradients.

    >>> solid_harmonics(1).powers.tolist()
    [[0, 0, 0, 0], [1, 0, 1, 0], [2, 0, 0, 1], [3, 1, 0, 0]]
    """
    harmonics = [_harmonic(degree, m) for degree in range(l_max + 1) for m in range(-degree, degree + 1)]
    norms = [_norm(degree, m) for degree in range(l_max + 1) for m in range(-degree, degree + 1)]
    rows = [(k, *powers) for k, polynomial in enumerate(harmonics) for powers in polynomial]
    values = [norms[k] * float(c) for k, polynomial in enumerate(harmonics) for c in polynomial.values()]
    gradient, factors = [], []
    for degree in range(1, l_max + 1):
        lower = range((degree - 1) ** 2, degree**2)
        for k in range(degree**2, (degree + 1) ** 2):
            for axis in range(3):
                # The gradient of a harmonic polynomial is one of the next lower degree.
                found = _expand(_derivative(harmonics[k], axis), [harmonics[q] for q in lower])
                for q, c in zip(lower, found, strict=True):
                    if abs(c) > 1e-12:
                        gradient.append((k, axis, q))
                        factors.append(c * norms[k] / norms[q])
    return Harmonics(
        powers=np.array(rows, dtype=np.int64),
        coefficients=np.array(values),
        gradient=np.array(gradient, dtype=np.int64).reshape(-1, 3),
        gradient_coefficients=np.array(factors, dtype=np.float64),
    )


def _norm(degree: int, m: int) -> float:
    share = 1.0 if m == 0 else 2.0 * factorial(degree - abs(m)) / factorial(degree + abs(m))
    return sqrt((2 * degree + 1) / (4 * pi) * share)


def _harmonic(degree: int, m: int) -> _Polynomial:
    """Return the polynomial of S_lm without its norm: an azimuthal part of degree |m| times one in z and r²."""
    cosine: _Polynomial = {(0, 0, 0): Fraction(1)}
    sine: _Polynomial = {}
    x: _Polynomial = {(1, 0, 0): Fraction(1)}
    y: _Polynomial = {(0, 1, 0): Fraction(1)}
    minus_y: _Polynomial = {(0, 1, 0): Fraction(-1)}
    for _ in range(abs(m)):
        cosine, sine = (
            _sum(_product(x, cosine), _product(minus_y, sine)),
            _sum(_product(x, sine), _product(y, cosine)),
        )
    square: _Polynomial = {(2, 0, 0): Fraction(1), (0, 2, 0): Fraction(1), (0, 0, 2): Fraction(1)}
    axial: _Polynomial = {}
    for k in range((degree - abs(m)) // 2 + 1):
        left = degree - 2 * k
        c = Fraction((-1) ** k * comb(degree, k) * comb(2 * (degree - k), degree) * perm(left, abs(m)), 2**degree)
        term: _Polynomial = {(0, 0, left - abs(m)): c}
        for _ in range(k):
            term = _product(term, square)
        axial = _sum(axial, term)
    return _product(axial, cosine if m >= 0 else sine)


def _product(a: _Polynomial, b: _Polynomial) -> _Polynomial:
    result: defaultdict[tuple[int, int, int], Fraction] = defaultdict(Fraction)
    for p, c in a.items():
        for q, d in b.items():
            result[(p[0] + q[0], p[1] + q[1], p[2] + q[2])] += c * d
    return {powers: c for powers, c in result.items() if c}


def _sum(a: _Polynomial, b: _Polynomial) -> _Polynomial:
    result = {powers: a.get(powers, Fraction(0)) + b.get(powers, Fraction(0)) for powers in sorted({*a, *b})}
    return {powers: c for powers, c in result.items() if c}


def _derivative(polynomial: _Polynomial, axis: int) -> _Polynomial:
    result: _Polynomial = {}
    for powers, c in polynomial.items():
        if powers[axis]:
            lower = (powers[0] - (axis == 0), powers[1] - (axis == 1), powers[2] - (axis == 2))
            result[lower] = c * powers[axis]
    return result


def _expand(polynomial: _Polynomial, basis: list[_Polynomial]) -> list[float]:
    """Return the coefficients of a polynomial that lies in the span of a basis."""
    powers = sorted({p for q in (polynomial, *basis) for p in q})
    matrix = np.array([[float(q.get(p, 0)) for q in basis] for p in powers])
    target = np.array([float(polynomial.get(p, 0)) for p in powers])
    found: list[float] = np.linalg.lstsq(matrix, target, rcond=None)[0].tolist()
    return found
