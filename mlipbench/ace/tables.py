"""Plain arrays that the compiled loops read: features of a pair, their products, folded coefficients, the wall.

Inside the loops the features of one element are ordered by l, then m, then n, so that those of one harmonic lie beside
each other; everywhere else by l, then n, then m (see `Functions`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlipbench.ace.basis import MAX_ORDER, Basis, functions
from mlipbench.ace.couplings import solid_harmonics
from mlipbench.core.model import Bool, Float, Int

# Indices of the innermost loops: unsigned, as a signed one costs a test for negative values at each use.
Index = NDArray[np.uint32]


# Functions at a time: their part of the design matrix of one centre stays in the second-level cache.
TILE = 192


class Pairs(NamedTuple):
    """What it takes to compute the features of one pair; see `Basis`, `Functions` and `Harmonics`.

    Attributes:
        cutoffs: shape (n_elements, n_elements), Å.
        decay: of the distance transform.
        envelopes: shape (2,), exponents for products and for pair features.
        radial_counts: shape (2,), radial functions of products, and of pair features, which follow them.
        n_features: per neighbour element.
        blocks: shape (n_blocks, 3), harmonic, first radial function and number of them: the features in their order.
        angular: shape (n_harmonics,), l of each harmonic.
        powers: shape (n, 4), harmonic and powers of x, y, z of each monomial.
        coefficients: shape (n,).
        gradient: shape (g, 3), harmonic, axis and lower harmonic.
        gradient_coefficients: shape (g,).
    """

    cutoffs: Float
    decay: float
    envelopes: Int
    radial_counts: Int
    n_features: int
    blocks: Int
    angular: Int
    powers: Int
    coefficients: Float
    gradient: Int
    gradient_coefficients: Float


class Products(NamedTuple):
    """Terms of the functions, and the sparse pattern of dB/dA, sorted by neighbour element, function and feature.

    Attributes:
        function: shape (n_terms,); terms are sorted by ν.
        features: shape (n_terms, 4), in the order of the loops.
        coefficient: shape (n_terms,).
        ends: shape (4,), one past the last term of ν = 1, 2, 3 and 4.
        entry: shape (n_terms, 4), entry of dB/dA that each factor's derivative is added to.
        entry_feature: shape (n_entries,), counted within its element, in the order of the loops.
        entry_start: shape (n_elements, n_functions + 1), first entry of each function.
        tiles: shape (n_tiles, 3), neighbour element, first function, and one past the last, of at most `TILE` functions
            beside each other that all depend on neighbours of the element.
    """

    function: Index
    features: Index
    coefficient: Float
    ends: Int
    entry: Index
    entry_feature: Index
    entry_start: Int
    tiles: Int


class Tree(NamedTuple):
    """Coefficients folded onto monomials, nested by common factors: Σ w_i A_i + Σ w_ij A_i A_j + … in Horner's way.

    A node of level ν is a product of ν features that begins a monomial; its weight is zero when it is none itself. The
    children of a node lie beside each other.

    Attributes:
        depth: number of levels in use.
        feature_1, …, feature_4: last factor of each node of a level.
        start_2, start_3, start_4: shape (n_nodes of the level above + 1,), first child of each node.
        weight_1, …, weight_4: shape (n_elements, n_nodes), eV, for each centre element.
    """

    depth: int
    feature_1: Index
    feature_2: Index
    feature_3: Index
    feature_4: Index
    start_2: Index
    start_3: Index
    start_4: Index
    weight_1: Float
    weight_2: Float
    weight_3: Float
    weight_4: Float


class Wall(NamedTuple):
    """Repulsion of nuclei at short range; see `mlipbench.ace.kernels.repulsion`.

    Attributes:
        charges: shape (n_elements,), of the nuclei.
        reach_A: shape (n_elements, n_elements), where it ends; 0 for none.
    """

    charges: Float
    reach_A: Float


@lru_cache(maxsize=16)
def pair_tables(basis: Basis) -> Pairs:
    """Return the tables for the features of one pair, up to the largest l in use."""
    table = functions(basis)
    counts = table.radial_counts.tolist()
    used = max((angular for angular, count in enumerate(counts) if count), default=0)
    tables = solid_harmonics(used)
    n_radial = max(counts)
    blocks = [(k, 0, counts[angular]) for angular in range(used + 1) for k in range(angular**2, (angular + 1) ** 2)]
    return Pairs(
        cutoffs=basis.cutoffs_A,
        decay=float(basis.decay),
        envelopes=np.array([basis.envelope, basis.pair_envelope], dtype=np.int64),
        radial_counts=np.array([n_radial, table.n_pair_features], dtype=np.int64),
        n_features=table.n_features,
        blocks=np.array([*blocks, (0, n_radial, table.n_pair_features)], dtype=np.int64),
        angular=np.repeat(np.arange(used + 1), 2 * np.arange(used + 1) + 1),
        powers=tables.powers,
        coefficients=tables.coefficients,
        gradient=tables.gradient,
        gradient_coefficients=tables.gradient_coefficients,
    )


def _loop_order(basis: Basis) -> Int:
    """Return the place in the loops of every feature of every element, and of the constant at the end."""
    table = functions(basis)
    places, first = [], 0
    for angular, count in enumerate(table.radial_counts.tolist()):
        width = 2 * angular + 1
        n, m = np.divmod(np.arange(count * width), width)
        places.append(first + m * count + n)
        first += count * width
    one = np.concatenate([*places, np.arange(first, table.n_features)])
    n_elements = len(basis.numbers)
    every = (np.arange(n_elements)[:, None] * table.n_features + one).reshape(-1)
    return np.append(every, n_elements * table.n_features)


@lru_cache(maxsize=16)
def product_tables(basis: Basis) -> Products:
    """Return the terms and the sparse pattern of dB/dA."""
    table = functions(basis)
    n_elements, n_functions = len(basis.numbers), table.n_functions
    constant = n_elements * table.n_features
    order = (table.term_features < constant).sum(axis=1)
    sorting = np.argsort(order, kind="stable")
    function = table.term_function[sorting]
    features = _loop_order(basis)[table.term_features[sorting]]
    element = features // table.n_features  # of the constant: n_elements, which sorts last
    flat = (element * n_functions + function[:, None]) * table.n_features + features % table.n_features
    keys, inverse = np.unique(flat, return_inverse=True)
    owner = keys // table.n_features
    kept = int(np.searchsorted(owner, n_elements * n_functions))
    starts = np.searchsorted(owner[:kept], np.arange(n_elements * n_functions + 1))
    entry_start = np.stack([starts[z * n_functions : (z + 1) * n_functions + 1] for z in range(n_elements)])
    return Products(
        function=function.astype(np.uint32),
        features=features.astype(np.uint32),
        coefficient=table.term_coefficient[sorting],
        ends=np.searchsorted(order[sorting], np.arange(1, MAX_ORDER + 1), side="right").astype(np.int64),
        entry=np.minimum(inverse.reshape(flat.shape), kept).astype(np.uint32),
        entry_feature=(keys % table.n_features)[:kept].astype(np.uint32),
        entry_start=entry_start,
        tiles=_tiles(np.diff(entry_start, axis=1) > 0),
    )


def _tiles(depends: Bool) -> Int:
    """Return runs of functions that depend on each element; `depends` has shape (n_elements, n_functions)."""
    tiles = []
    for z, flags in enumerate(depends):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
        for low, high in edges.reshape(-1, 2).tolist():
            tiles += [(z, cut, min(cut + TILE, high)) for cut in range(low, high, TILE)]
    return np.array(tiles, dtype=np.int64).reshape(-1, 3)


@lru_cache(maxsize=16)
def _nodes(basis: Basis) -> tuple[tuple[Index, ...], tuple[Index, ...], tuple[tuple[Int, Int], ...]]:
    """Return features and child starts of each level, and which monomials (first) stand at which nodes (second)."""
    table = functions(basis)
    constant = len(basis.numbers) * table.n_features
    monomials = np.sort(_loop_order(basis)[table.monomials], axis=1)
    order = (monomials < constant).sum(axis=1)
    above = np.zeros((1, 0), dtype=np.int64)
    features, starts, places = [], [], []
    for level in range(1, MAX_ORDER + 1):
        longer = order >= level
        nodes, node = np.unique(monomials[longer, :level], axis=0, return_inverse=True)
        ends_here = order[longer] == level
        features.append(nodes[:, -1].astype(np.uint32))
        places.append((np.flatnonzero(longer)[ends_here], node.reshape(-1)[ends_here]))
        parent = np.unique(np.concatenate([above, nodes[:, :-1]]), axis=0, return_inverse=True)[1][len(above) :]
        starts.append(np.searchsorted(parent, np.arange(len(above) + 1)).astype(np.uint32))
        above = nodes
    return tuple(features), tuple(starts[1:]), tuple(places)


def fold(basis: Basis, weights: Float) -> Tree:
    """Return coefficients per monomial from coefficients per function, shape (n_elements, n_functions)."""
    table = functions(basis)
    features, starts, places = _nodes(basis)
    n_elements = len(basis.numbers)
    folded = np.zeros((n_elements, len(table.monomials)))
    for element, row in enumerate(weights):
        folded[element] = np.bincount(
            table.term_monomial, row[table.term_function] * table.term_coefficient, minlength=folded.shape[1]
        )
    levels = []
    for feature, (monomial, node) in zip(features, places, strict=True):
        level = np.zeros((n_elements, len(feature)))
        level[:, node] = folded[:, monomial]
        levels.append(level)
    depth = sum(len(feature) > 0 for feature in features)
    return Tree(depth, *features, *starts, *levels)  # type: ignore[arg-type]  # one after another, as Tree lists them
