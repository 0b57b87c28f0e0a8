"""The basis of the linear ACE: hyperparameters, and the tables of product terms that follow from them.

Every function of an atom's surroundings is a product of two to four features A_znlm = Σ_j R_n(r_ij) Y_lm(r_ij), sums
over the neighbours of element z, coupled to an invariant of O(3); or one of the pair features P_zn = Σ_j Q_n(r_ij) Y_00
alone, whose radial functions Q may reach out further.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import combinations_with_replacement
from math import floor
from numbers import Integral, Real
from typing import Any

import numpy as np

from mlipbench.ace.couplings import invariants
from mlipbench.core.model import Float, Int
from mlipbench.errors import BadInput

MAX_ORDER = 4
MAX_FUNCTIONS = 100_000
MAX_ENVELOPE = 24
MIN_DECAY = 1e-3  # below, distances are transformed to round-off

_Channel = tuple[int, int]  # neighbour element, radial number
_Block = tuple[_Channel, int]  # a channel and its l


def _whole(given: Any) -> int:
    """Return a whole number, perhaps one of numpy, as one of Python."""
    if isinstance(given, bool) or not isinstance(given, Integral):
        raise TypeError(f"{given!r} is no whole number")
    return int(given)


def _number(given: Any) -> float:
    """Return a number, perhaps one of numpy, as one of Python."""
    if isinstance(given, bool) or not isinstance(given, Real):
        raise TypeError(f"{given!r} is no number")
    return float(given)


# How each field becomes plain Python numbers, and what it must hold for that.
_KINDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "numbers": (lambda given: tuple(map(_whole, given)), "several whole numbers"),
    "cutoff_A": (_number, "a number"),
    "degrees": (lambda given: tuple(map(_number, given)), "several numbers"),
    "l_max": (_whole, "a whole number"),
    "l_weight": (_number, "a number"),
    "decay": (_number, "a number"),
    "envelope": (_whole, "a whole number"),
    "pair_envelope": (_whole, "a whole number"),
    "pair_cutoffs_A": (
        lambda given: tuple((_whole(a), _whole(b), _number(cutoff)) for a, b, cutoff in given),
        "triples of two atomic numbers and a distance",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Which functions describe an atom's surroundings.

    A product of ν features belongs to the basis when Σ (n + l_weight · l) over its features is at most
    `degrees[ν - 1]`; n counts from 0. Each centre element has its own coefficients.

    Attributes:
        numbers: atomic numbers covered, ascending.
        cutoff_A: distance beyond which atoms do not see each other.
        degrees: largest total degree for ν = 1 (pairs), 2, 3 and 4 features; one to four numbers, and one below 0
            leaves its order out.
        l_max: largest angular number.
        l_weight: degree that one unit of l costs.
        decay: of the distance transform exp(-decay · r / cutoff), from 0.001 to 20; larger resolves short distances
            better.
        envelope: p of the factor (1 - (r / cutoff)²)^p; from 3 on the energy is twice differentiable at the cutoff. A
            large one keeps products of many features to close neighbours, where data can resolve them.
        pair_envelope: the same for ν = 1.
        pair_cutoffs_A: pairs of atomic numbers, the smaller first, with a shorter cutoff of their own.

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
    pair_envelope: int = 3
    pair_cutoffs_A: tuple[tuple[int, int, float], ...] = ()

    def __post_init__(self) -> None:
        """Keep plain Python numbers, and refuse values without meaning."""
        for name, (convert, needed) in _KINDS.items():
            try:
                object.__setattr__(self, name, convert(getattr(self, name)))
            except (TypeError, ValueError, OverflowError) as error:
                raise BadInput(f"ACE basis: {name} is {getattr(self, name)!r}; it must be {needed}") from error
        checks = (
            ("numbers", bool(self.numbers) and tuple(sorted(set(self.numbers))) == self.numbers
             and 0 < self.numbers[0] <= self.numbers[-1] <= 118,
             "distinct atomic numbers up to 118 in ascending order"),
            ("cutoff_A", 0 < self.cutoff_A < np.inf, "a positive distance in Å"),
            ("degrees", 1 <= len(self.degrees) <= MAX_ORDER and self.degrees[0] >= 0
             and all(-np.inf < degree <= 40 for degree in self.degrees),
             f"one to {MAX_ORDER} finite numbers up to 40, the first not below 0"),
            ("l_max", 0 <= self.l_max <= 8, "a whole number from 0 to 8"),
            ("l_weight", 0 < self.l_weight < np.inf, "a positive number"),
            ("decay", MIN_DECAY <= self.decay <= 20, f"a number from {MIN_DECAY} to 20"),
            ("envelope", 3 <= self.envelope <= MAX_ENVELOPE,
             f"a whole number from 3 to {MAX_ENVELOPE}, for smooth forces"),
            ("pair_envelope", 3 <= self.pair_envelope <= MAX_ENVELOPE,
             f"a whole number from 3 to {MAX_ENVELOPE}, for smooth forces"),
            ("pair_cutoffs_A", self._pairs_make_sense(),
             "distinct pairs of covered atomic numbers, the smaller first, with a distance up to cutoff_A"),
        )  # fmt: skip
        for name, good, allowed in checks:
            if not good:
                raise BadInput(f"ACE basis: {name} is {getattr(self, name)}; it must be {allowed}")

    def _pairs_make_sense(self) -> bool:
        pairs = [(a, b) for a, b, _ in self.pair_cutoffs_A]
        return len(set(pairs)) == len(pairs) and all(
            a <= b and {a, b} <= set(self.numbers) and 0 < cutoff <= self.cutoff_A
            for a, b, cutoff in self.pair_cutoffs_A
        )

    @property
    def cutoffs_A(self) -> Float:
        """Cutoff of each pair of elements, in the order of `numbers`: shape (n_elements, n_elements), symmetric."""
        cutoffs = np.full((len(self.numbers),) * 2, self.cutoff_A)
        for a, b, cutoff in self.pair_cutoffs_A:
            i, j = self.numbers.index(a), self.numbers.index(b)
            cutoffs[i, j] = cutoffs[j, i] = cutoff
        return cutoffs

    def degree(self, n: int, angular: int) -> float:
        """Return the degree of one feature."""
        return n + self.l_weight * angular


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Functions:
    """Product terms of a basis; the same for every centre element.

    A feature is numbered element · n_features + (position of its l, n, m; the pair features follow); the number
    n_elements · n_features stands for the constant 1 and fills up products of fewer than four.

    Attributes:
        n_features: per neighbour element, pair features among them.
        n_pair_features: per neighbour element.
        radial_counts: shape (l_max + 1,), radial functions kept for each l in products.
        n_functions: per centre element.
        order_counts: functions of ν = 1, 2, 3 and 4.
        degree: shape (n_functions,), total degree plus 1, for the smoothness prior.
        term_function: shape (n_terms,), function that a term belongs to, ascending.
        term_features: shape (n_terms, 4), ascending in each row.
        term_coefficient: shape (n_terms,).
        monomials: shape (n_monomials, 4), distinct rows of `term_features`, sorted by ν, then by feature.
        term_monomial: shape (n_terms,).
        monomial_ends: shape (4,), one past the last monomial of ν = 1, 2, 3 and 4.
    """

    n_features: int
    n_pair_features: int
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
        """Sha256 of the functions and their order: coefficients have no meaning under another one."""
        parts = (self.term_features, self.term_function, np.round(self.term_coefficient * 2**30).astype(np.int64))
        return sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@lru_cache(maxsize=16)
def functions(basis: Basis) -> Functions:
    """Return the product terms of a basis.

    Raises:
        BadInput: there are more than `MAX_FUNCTIONS`.

    >>> functions(Basis(numbers=(1,), degrees=(3.0, 2.0), l_max=1)).order_counts
    (4, 4, 0, 0)
    """
    products = _products(basis)
    used: defaultdict[int, int] = defaultdict(int)
    for blocks in products:
        for (_, n), angular in blocks if len(blocks) > 1 else ():
            used[angular] = max(used[angular], n + 1)
    radial_counts = np.array([used[angular] for angular in range(basis.l_max + 1)], dtype=np.int64)
    widths = radial_counts * (2 * np.arange(basis.l_max + 1) + 1)
    first = np.concatenate([[0], np.cumsum(widths)])
    n_pair_features = floor(basis.degrees[0]) + 1
    n_features = int(first[-1]) + n_pair_features
    constant = n_features * len(basis.numbers)

    owner: list[Int] = []
    features: list[Int] = []
    coefficients: list[Float] = []
    degree: list[float] = []
    orders: list[int] = []
    for blocks in products:
        if len(blocks) == 1:
            ((z, n), _) = blocks[0]
            starts = [z * n_features + int(first[-1]) + n]
        else:
            starts = [z * n_features + int(first[angular]) + n * (2 * angular + 1) for (z, n), angular in blocks]
        for ms, c in _terms(tuple(angular for _, angular in blocks), _groups(blocks)):
            rows = np.full((len(c), MAX_ORDER), constant, dtype=np.int64)
            rows[:, : len(blocks)] = ms + np.array(starts, dtype=np.int64)
            features.append(np.sort(rows, axis=1))
            coefficients.append(c)
            owner.append(np.full(len(c), len(degree), dtype=np.int64))
            degree.append(1.0 + sum(basis.degree(n, angular) for (_, n), angular in blocks))
            orders.append(len(blocks))
    term_features = np.concatenate(features)
    monomials, term_monomial, ends = _distinct(term_features, constant)
    return Functions(
        n_features=n_features,
        n_pair_features=n_pair_features,
        radial_counts=radial_counts,
        n_functions=len(degree),
        order_counts=tuple(orders.count(order) for order in range(1, MAX_ORDER + 1)),
        degree=np.array(degree),
        term_function=np.concatenate(owner),
        term_features=term_features,
        term_coefficient=np.concatenate(coefficients),
        monomials=monomials,
        term_monomial=term_monomial,
        monomial_ends=ends,
    )


def _products(basis: Basis) -> list[tuple[_Block, ...]]:
    """Return the channels and angular numbers of every product that couples.

    Those of the same elements stand together, so that what depends on one element lies in few pieces.

    Raises:
        BadInput: there are more than `MAX_FUNCTIONS`.
    """
    found: list[tuple[_Block, ...]] = []
    for order, limit in enumerate(basis.degrees, start=1):
        channels = [(z, n) for z in range(len(basis.numbers)) for n in range(floor(max(limit, -1.0)) + 1)]
        for ls in combinations_with_replacement(range(basis.l_max + 1), order):
            if not invariants(ls, tuple(range(order))):
                continue
            for chosen in _channels(basis, channels, ls, limit):
                found.append(tuple(zip(chosen, ls, strict=True)))
                if len(found) > MAX_FUNCTIONS:
                    raise BadInput(
                        f"ACE basis: degrees {basis.degrees} give more than {MAX_FUNCTIONS} functions for "
                        f"{len(basis.numbers)} elements; lower them"
                    )
    return sorted(found, key=lambda blocks: sorted({z for (z, _), _ in blocks}))


def _channels(
    basis: Basis, channels: list[_Channel], ls: tuple[int, ...], left: float, before: tuple[_Channel, ...] = ()
) -> Iterator[tuple[_Channel, ...]]:
    """Yield channels for ascending angular numbers within a degree, once up to the order of equal l."""
    place = len(before)
    if place == len(ls):
        yield before
        return
    later = sum(basis.degree(0, angular) for angular in ls[place + 1 :])
    for channel in channels:
        rest = left - basis.degree(channel[1], ls[place])
        if rest >= later and not (place and ls[place] == ls[place - 1] and channel < before[-1]):
            yield from _channels(basis, channels, ls, rest, (*before, channel))


def _groups(blocks: tuple[_Block, ...]) -> tuple[int, ...]:
    """Return a number for each factor, equal for equal ones."""
    return tuple(blocks.index(block) for block in blocks)


@lru_cache(maxsize=4096)
def _terms(ls: tuple[int, ...], groups: tuple[int, ...]) -> tuple[tuple[Int, Float], ...]:
    """Return, for each independent invariant, the m (from 0) of each factor and the coefficient of its distinct terms.

    Products of equal factors are summed up to their order.
    """
    found = []
    for tensor in invariants(ls, groups):
        terms: defaultdict[tuple[int, ...], float] = defaultdict(float)
        for m in np.argwhere(tensor != 0).tolist():
            terms[_ordered(m, groups)] += float(tensor[tuple(m)])
        kept = {key: c for key, c in sorted(terms.items()) if abs(c) > 1e-12}
        found.append((np.array(list(kept), dtype=np.int64).reshape(-1, len(ls)), np.array(list(kept.values()))))
    return tuple(found)


def _ordered(m: list[int], groups: tuple[int, ...]) -> tuple[int, ...]:
    """Return the m with those of equal factors in ascending order."""
    result = list(m)
    for group in set(groups):
        places = [k for k, one in enumerate(groups) if one == group]
        for k, value in zip(places, sorted(m[k] for k in places), strict=True):
            result[k] = value
    return tuple(result)


def _distinct(term_features: Int, constant: int) -> tuple[Int, Int, Int]:
    """Return distinct monomials sorted by order, the monomial of each term, and where each order ends."""
    order = (term_features < constant).sum(axis=1)
    keyed, inverse = np.unique(np.column_stack([order, term_features]), axis=0, return_inverse=True)
    ends = np.searchsorted(keyed[:, 0], np.arange(1, MAX_ORDER + 1), side="right")
    return np.ascontiguousarray(keyed[:, 1:]), inverse.reshape(-1).astype(np.int64), ends.astype(np.int64)
