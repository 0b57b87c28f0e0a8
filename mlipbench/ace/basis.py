"""The basis of the linear ACE: hyperparameters, and the tables of product terms that follow from them.

Every function of an atom's surroundings is a product of at most three features
A_znlm = Σ_j R_n(r_ij) Y_lm(r_ij), summed over the neighbours of element z, coupled to an invariant of O(3).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import combinations_with_replacement
from math import floor, sqrt

import numpy as np

from mlipbench.ace.couplings import coupling
from mlipbench.core.model import Float, Int
from mlipbench.errors import BadInput

MAX_ORDER = 3

_Channel = tuple[int, int]  # neighbour element, radial number
_Block = tuple[_Channel, int]  # a channel and its l


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Which functions describe an atom's surroundings.

    A product of ν features belongs to the basis when Σ (n + l_weight · l) over its features is at most
    `degrees[ν - 1]`; n counts from 0. Each centre element has its own coefficients.

    Attributes:
        numbers: atomic numbers covered, ascending.
        cutoff_A: distance beyond which atoms do not see each other.
        degrees: largest total degree for ν = 1 (pairs), 2 and 3 features; one to three numbers, and one below 0 leaves
            its order out.
        l_max: largest angular number.
        l_weight: degree that one unit of l costs.
        decay: of the distance transform exp(-decay · r / cutoff_A); larger resolves short distances better.
        envelope: p of the factor (1 - (r / cutoff_A)²)^p; from 3 on the energy is twice differentiable at the cutoff.

    Raises:
        BadInput: a value is out of range.
    """

    numbers: tuple[int, ...]
    cutoff_A: float = 4.5
    degrees: tuple[float, ...] = (11.0, 8.0, 6.0)
    l_max: int = 3
    l_weight: float = 1.5
    decay: float = 3.0
    envelope: int = 3

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        checks = (
            ("numbers", bool(self.numbers) and tuple(sorted(set(self.numbers))) == self.numbers and self.numbers[0] > 0,
             "distinct atomic numbers in ascending order"),
            ("cutoff_A", 0 < self.cutoff_A < np.inf, "a positive distance in Å"),
            ("degrees", 1 <= len(self.degrees) <= MAX_ORDER and 0 <= self.degrees[0] <= 40 and max(self.degrees) <= 40,
             f"one to {MAX_ORDER} numbers up to 40, the first not below 0"),
            ("l_max", 0 <= self.l_max <= 8, "a whole number from 0 to 8"),
            ("l_weight", 0 < self.l_weight < np.inf, "a positive number"),
            ("decay", 0 < self.decay <= 20, "a positive number up to 20"),
            ("envelope", 3 <= self.envelope <= 8, "a whole number from 3 to 8, for smooth forces"),
        )  # fmt: skip
        for name, good, allowed in checks:
            if not good:
                raise BadInput(f"ACE basis: {name} is {getattr(self, name)}; it must be {allowed}")

    def degree(self, n: int, angular: int) -> float:
        """Return the degree of one feature."""
        return n + self.l_weight * angular


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Functions:
    """Product terms of a basis; the same for every centre element.

    A feature is numbered element · n_features + (position of its l, n, m); the number n_elements · n_features stands
    for the constant 1 and fills up products of fewer than three.

    Attributes:
        n_features: per neighbour element.
        radial_counts: shape (l_max + 1,), radial functions kept for each l.
        n_functions: per centre element.
        order_counts: functions of ν = 1, 2 and 3.
        degree: shape (n_functions,), total degree plus 1, for the smoothness prior.
        term_function: shape (n_terms,), function that a term belongs to.
        term_features: shape (n_terms, 3).
        term_coefficient: shape (n_terms,).
        monomials: shape (n_monomials, 3), distinct rows of `term_features`, sorted by ν.
        term_monomial: shape (n_terms,).
        monomial_ends: shape (3,), one past the last monomial of ν = 1, 2 and 3.
    """

    n_features: int
    radial_counts: Int
    n_functions: int
    order_counts: tuple[int, ...]
    degree: Float
    term_function: Int
    term_features: Int
    term_coefficient: Float
    monomials: Int
    term_monomial: Int
    monomial_ends: Int

    @property
    def fingerprint(self) -> str:
        """Sha256 of the order of functions and terms: coefficients have no meaning under another one."""
        return sha256(self.term_features.tobytes() + self.term_function.tobytes()).hexdigest()


@lru_cache(maxsize=8)
def functions(basis: Basis) -> Functions:
    """Return the product terms of a basis.

    >>> functions(Basis(numbers=(1,), degrees=(3.0, 2.0), l_max=1)).order_counts
    (4, 4, 0)
    """
    products = list(_products(basis))
    used: defaultdict[int, int] = defaultdict(int)
    for blocks in products:
        for (_, n), angular in blocks:
            used[angular] = max(used[angular], n + 1)
    radial_counts = np.array([used[angular] for angular in range(basis.l_max + 1)], dtype=np.int64)
    widths = radial_counts * (2 * np.arange(basis.l_max + 1) + 1)
    first = np.concatenate([[0], np.cumsum(widths)])
    n_features = int(first[-1])

    def feature(block: _Block, m: int) -> int:
        (element, n), angular = block
        return int(element * n_features + first[angular] + n * (2 * angular + 1) + m)

    rows: list[tuple[int, tuple[int, ...], float]] = []
    constant = n_features * len(basis.numbers)
    for number, blocks in enumerate(products):
        for features, c in _terms(blocks, feature).items():
            rows.append((number, features + (constant,) * (MAX_ORDER - len(features)), c))
    term_features = np.array([row[1] for row in rows], dtype=np.int64)
    monomials, term_monomial, ends = _distinct(term_features, constant)
    return Functions(
        n_features=n_features,
        radial_counts=radial_counts,
        n_functions=len(products),
        order_counts=tuple(sum(len(blocks) == order for blocks in products) for order in range(1, MAX_ORDER + 1)),
        degree=np.array([1.0 + sum(basis.degree(n, angular) for (_, n), angular in blocks) for blocks in products]),
        term_function=np.array([row[0] for row in rows], dtype=np.int64),
        term_features=term_features,
        term_coefficient=np.array([row[2] for row in rows]),
        monomials=monomials,
        term_monomial=term_monomial,
        monomial_ends=ends,
    )


def _products(basis: Basis) -> Iterator[tuple[_Block, ...]]:
    """Yield the channels and angular numbers of every function, pairs first."""
    limits = [*basis.degrees, *[-1.0] * (MAX_ORDER - len(basis.degrees))]
    channels = [(z, n) for z in range(len(basis.numbers)) for n in range(floor(max(limits)) + 1)]
    for channel in channels:
        if channel[1] <= limits[0]:
            yield ((channel, 0),)
    for angular in range(basis.l_max + 1):
        for pair in combinations_with_replacement(channels, 2):
            if sum(basis.degree(n, angular) for _, n in pair) <= limits[1]:
                yield tuple((channel, angular) for channel in pair)
    for ls in combinations_with_replacement(range(basis.l_max + 1), 3):
        if sum(ls) % 2 == 0 and ls[2] <= ls[0] + ls[1]:
            yield from _triples(basis, channels, ls, limits[2])


def _triples(basis: Basis, channels: list[_Channel], ls: tuple[int, ...], limit: float) -> Iterator[tuple[_Block, ...]]:
    """Yield every triple of channels for one ascending triple of angular numbers, once up to the order of equal l."""
    l1, l2, l3 = ls
    for a in channels:
        left = limit - basis.degree(a[1], l1)
        for b in channels:
            rest = left - basis.degree(b[1], l2)
            if rest < 0 or (l1 == l2 and b < a):
                continue
            for c in channels:
                if basis.degree(c[1], l3) <= rest and not (l2 == l3 and c < b):
                    yield ((a, l1), (b, l2), (c, l3))


def _terms(blocks: tuple[_Block, ...], feature: Callable[[_Block, int], int]) -> dict[tuple[int, ...], float]:
    """Return the features and the coefficient of every distinct term of one function."""
    terms: defaultdict[tuple[int, ...], float] = defaultdict(float)
    if len(blocks) == 1:
        return {(feature(blocks[0], 0),): 1.0}
    if len(blocks) == 2:
        width = 2 * blocks[0][1] + 1
        return {tuple(feature(block, m) for block in blocks): 1 / sqrt(width) for m in range(width)}
    weights = coupling(*(angular for _, angular in blocks))
    for m in np.argwhere(weights != 0).tolist():
        key = tuple(sorted(feature(block, k) for block, k in zip(blocks, m, strict=True)))
        terms[key] += float(weights[tuple(m)])
    return {key: c for key, c in terms.items() if abs(c) > 1e-12}


def _distinct(term_features: Int, constant: int) -> tuple[Int, Int, Int]:
    """Return distinct monomials sorted by order, the monomial of each term, and where each order ends."""
    order = (term_features < constant).sum(axis=1)
    keyed, inverse = np.unique(np.column_stack([order, term_features]), axis=0, return_inverse=True)
    ends = np.searchsorted(keyed[:, 0], np.arange(1, MAX_ORDER + 1), side="right")
    return np.ascontiguousarray(keyed[:, 1:]), inverse.reshape(-1).astype(np.int64), ends.astype(np.int64)
