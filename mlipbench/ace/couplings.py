"""Real solid harmonics as monomial tables, and what couples them to invariants; numpy only.

Conventions: the polar axis is z, m runs from -l to l (sine, then cosine: l = 1 is y, z, x), there is no Condon-Shortley
phase, and the harmonics are orthonormal on the sphere.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import permutations
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
    """Return W of shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) for which Σ W_abc Y_a Y_b Y_c keeps under rotations.

    Normalised to Σ W² = 1; zero where the triangle does not close. Under inversion the sum turns into
    (-1)^(l1 + l2 + l3) times itself.

    >>> coupling(1, 1, 0)[:, :, 0].round(3).diagonal().tolist()
    [-0.577, -0.577, -0.577]
    """
    symbol = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1), dtype=np.complex128)
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                symbol[m1 + l1, m2 + l2, l3 - m1 - m2] = wigner_3j(l1, l2, l3, m1, m2, -m1 - m2)
    turned = np.einsum("abc,ia,jb,kc->ijk", symbol, *(_complex_to_real(degree).conj() for degree in (l1, l2, l3)))
    # In real harmonics the coupling is real for even l1 + l2 + l3, and imaginary for odd.
    real: Float = np.ascontiguousarray(turned.imag if (l1 + l2 + l3) % 2 else turned.real)
    real[np.abs(real) < 1e-14] = 0.0
    return real


@lru_cache(maxsize=1024)
def invariants(ls: tuple[int, ...], groups: tuple[int, ...]) -> tuple[Float, ...]:
    """Return all independent W for which Σ W_ab… Y_a(1) Y_b(2) … is invariant under rotations and reflections.

    Factors with equal group numbers are the same quantity, so that only the part of W that is symmetric in them counts;
    what is then linearly dependent is left out.

    Args:
        ls: angular numbers of one to four factors.
        groups: a number for each factor.

    Returns:
        Tensors of shape (2 l1 + 1, …), orthonormal: Σ W W' is 1 or 0. Empty when Σ l is odd, or nothing couples.

    Source: Dusson et al., J. Comput. Phys. 454, 110946 (2022), section 3, on symmetric invariants and their rank.

    >>> len(invariants((1, 1, 1, 1), (0, 1, 2, 3))), len(invariants((1, 1, 1, 1), (0, 0, 0, 0)))
    (3, 1)
    """
    if sum(ls) % 2:
        return ()
    tensors = [_symmetric(tensor, ls, groups) for tensor in _coupled(ls)]
    found: list[Float] = []
    for tensor in tensors:
        left = tensor.copy()
        for _ in range(2):  # twice is enough for orthogonality to round-off
            for one in found:
                left -= np.vdot(one, left) * one
        norm = float(np.linalg.norm(left))
        if norm > 1e-8:
            left /= norm
            left[np.abs(left) < 1e-13] = 0.0
            found.append(left)
    return tuple(found)


def _coupled(ls: tuple[int, ...]) -> list[Float]:
    """Return all couplings to zero of one to four factors, each normalised."""
    if len(ls) == 1:
        return [np.ones(1)] if ls == (0,) else []
    if len(ls) == 2:
        return [np.eye(2 * ls[0] + 1) / sqrt(2 * ls[0] + 1)] if ls[0] == ls[1] else []
    if len(ls) == 3:
        return [coupling(*ls)] if abs(ls[0] - ls[1]) <= ls[2] <= ls[0] + ls[1] else []
    l1, l2, l3, l4 = ls
    middle = range(max(abs(l1 - l2), abs(l3 - l4)), min(l1 + l2, l3 + l4) + 1)
    return [
        np.einsum("abm,cdm->abcd", coupling(l1, l2, total), coupling(l3, l4, total)) * sqrt(2 * total + 1)
        for total in middle
    ]


def _symmetric(tensor: Float, ls: tuple[int, ...], groups: tuple[int, ...]) -> Float:
    """Return the mean over all exchanges of factors that are the same."""
    orders = [
        order
        for order in permutations(range(len(ls)))
        if all(groups[order[k]] == groups[k] and ls[order[k]] == ls[k] for k in range(len(ls)))
    ]
    mean: Float = sum((tensor.transpose(order) for order in orders), np.zeros_like(tensor)) / len(orders)
    return mean


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
