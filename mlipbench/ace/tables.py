"""Plain arrays that the compiled loops read: features of a pair, their products, folded coefficients, the wall."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.couplings import solid_harmonics
from mlipbench.core.model import Float, Int


class Pairs(NamedTuple):
    """What it takes to compute the features of one pair; see `Basis`, `Functions` and `Harmonics`."""

    cutoff: float
    decay: float
    envelope: int
    n_features: int
    radial_counts: Int
    powers: Int
    coefficients: Float
    gradient: Int
    gradient_coefficients: Float


class Products(NamedTuple):
    """Terms of the functions and the sparse pattern of dB/dA, sorted by the neighbour element of A.

    Attributes:
        function: shape (n_terms,).
        features: shape (n_terms, 3).
        coefficient: shape (n_terms,).
        entry: shape (n_terms, 3), entry of dB/dA that each factor's derivative is added to.
        entry_function: shape (n_entries,).
        entry_feature: shape (n_entries,), counted within its element.
        element_start: shape (n_elements + 1,), first entry of each neighbour element.
        n_functions: per centre element.
    """

    function: Int
    features: Int
    coefficient: Float
    entry: Int
    entry_function: Int
    entry_feature: Int
    element_start: Int
    n_functions: int


class Folded(NamedTuple):
    """Coefficients folded onto monomials.

    Attributes:
        monomials: shape (n_monomials, 3), sorted by order.
        ends: shape (3,), one past the last monomial of each order.
        weights: shape (n_elements, n_monomials), eV.
    """

    monomials: Int
    ends: Int
    weights: Float


class Wall(NamedTuple):
    """Repulsion of nuclei at short range; see `mlipbench.ace.kernels.repulsion`.

    Attributes:
        charges: shape (n_elements,), of the nuclei.
        reach_A: shape (n_elements, n_elements), where it ends; 0 for none.
    """

    charges: Float
    reach_A: Float


@lru_cache(maxsize=8)
def pair_tables(basis: Basis) -> Pairs:
    """Return the tables for the features of one pair, up to the largest l in use."""
    counts = functions(basis).radial_counts
    used = int(np.flatnonzero(counts).max())
    tables = solid_harmonics(used)
    return Pairs(
        cutoff=float(basis.cutoff_A),
        decay=float(basis.decay),
        envelope=int(basis.envelope),
        n_features=functions(basis).n_features,
        radial_counts=counts[: used + 1].copy(),
        powers=tables.powers,
        coefficients=tables.coefficients,
        gradient=tables.gradient,
        gradient_coefficients=tables.gradient_coefficients,
    )


@lru_cache(maxsize=8)
def product_tables(basis: Basis) -> Products:
    """Return the terms and the sparse pattern of dB/dA."""
    table = functions(basis)
    n_elements = len(basis.numbers)
    constant = n_elements * table.n_features
    flat = table.term_features * table.n_functions + table.term_function[:, None]
    keys, inverse = np.unique(flat, return_inverse=True)  # the constant sorts last
    feature = keys // table.n_functions
    kept = feature < constant
    entry = np.minimum(inverse.reshape(flat.shape), int(kept.sum()))
    return Products(
        function=table.term_function,
        features=table.term_features,
        coefficient=table.term_coefficient,
        entry=entry.astype(np.int64),
        entry_function=(keys % table.n_functions)[kept],
        entry_feature=(feature % table.n_features)[kept],
        element_start=np.searchsorted(feature[kept], np.arange(n_elements + 1) * table.n_features).astype(np.int64),
        n_functions=table.n_functions,
    )


def fold(basis: Basis, weights: Float) -> Folded:
    """Return coefficients per monomial from coefficients per function, shape (n_elements, n_functions)."""
    table = functions(basis)
    folded = np.zeros((len(basis.numbers), len(table.monomials)))
    for element, row in enumerate(weights):
        np.add.at(folded[element], table.term_monomial, row[table.term_function] * table.term_coefficient)
    return Folded(monomials=table.monomials, ends=table.monomial_ends, weights=folded)
