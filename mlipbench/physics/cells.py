"""Which of its periodic images is nearest?

A cell is a matrix whose rows are lattice vectors. Directions without periodicity may hold anything, a zero vector too.
"""

from __future__ import annotations

from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlipbench.errors import BadInput

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

FLAT: Final = 1e-8  # volume over the product of edge lengths; below it the lattice vectors lie in a plane


def complete_cell(cell: Float, pbc: Bool) -> Float:
    """Return a cell with unit vectors, normal to all periodic ones, in the directions without periodicity.

    Args:
        cell: shape (3, 3), Å.
        pbc: shape (3,).

    Returns:
        Shape (3, 3), Å; never singular.

    Raises:
        BadInput: the periodic vectors are zero, not finite or linearly dependent.

    >>> abs(complete_cell(np.diag([4.0, 5.0, 0.0]), np.array([True, True, False]))).tolist()
    [[4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 1.0]]
    """
    full = np.array(cell, dtype=np.float64)
    if not np.isfinite(full[pbc]).all():
        raise BadInput(f"the cell {full.tolist()} is not finite; a periodic frame needs finite lattice vectors")
    lengths = np.linalg.norm(full[pbc], axis=1)
    directions = full[pbc] / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    _, singular, right = np.linalg.svd(directions.reshape(-1, 3))
    if pbc.any() and (np.prod(singular) < FLAT or (lengths == 0.0).any()):
        raise BadInput(f"the cell {full.tolist()} has no volume along its periodic directions; give it lattice vectors")
    full[~pbc] = right[int(pbc.sum()) :]
    return full


def reduced_cell(cell: Float, pbc: Bool) -> tuple[Float, Int]:
    """Return short lattice vectors of the same lattice, and how they are made of the given ones.

    Pairs of periodic vectors are reduced until none gets shorter, which makes searches over images cheap in skewed
    cells; nothing relies on the result being the shortest.

    Args:
        cell: shape (3, 3), Å, as `complete_cell` returns it.
        pbc: shape (3,).

    Returns:
        The reduced cell, shape (3, 3), Å, and integers `transform`, shape (3, 3), with `transform @ cell` equal to it.

    >>> reduced_cell(np.array([[2.0, 0, 0], [7.0, 2, 0], [0, 0, 2]]), np.ones(3, bool))[0].tolist()
    [[2.0, 0.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
    """
    transform = np.eye(3, dtype=np.int64)
    periodic = np.flatnonzero(pbc)
    improved = True
    while improved:
        improved = False
        for i, j in product(periodic, periodic):
            vectors = transform @ cell
            times = int(np.rint(vectors[i] @ vectors[j] / (vectors[j] @ vectors[j]))) if i != j else 0
            shorter = vectors[i] - times * vectors[j]
            # The margin keeps round-off from swapping two vectors of one length forever.
            if times and shorter @ shorter < (1.0 - 1e-9) * (vectors[i] @ vectors[i]):
                transform[i] -= times * transform[j]
                improved = True
    return transform @ cell, transform


def plane_spacings(cell: Float) -> Float:
    """Return the distance between lattice planes along each lattice vector, shape (3,), Å.

    >>> plane_spacings(np.diag([2.0, 3.0, 4.0])).round(12).tolist()
    [2.0, 3.0, 4.0]
    """
    return np.asarray(1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0), dtype=np.float64)


def shifts_within(reach: Int) -> Int:
    """Return all integer triples with absolute values up to `reach`, shape (n, 3).

    >>> shifts_within(np.array([1, 0, 0])).tolist()
    [[-1, 0, 0], [0, 0, 0], [1, 0, 0]]
    """
    return np.array(list(product(*(range(-int(n), int(n) + 1) for n in reach))), dtype=np.int64)


def minimum_image(vectors: Float, cell: Float, pbc: Bool) -> Float:
    """Return the shortest periodic image of each vector, exactly, in any cell.

    Args:
        vectors: shape (n, 3), Å.
        cell: shape (3, 3), Å.
        pbc: shape (3,).

    Returns:
        Shape (n, 3), Å.

    Raises:
        BadInput: the cell has no volume along its periodic directions.

    In a skewed cell, rounding fractional coordinates alone would leave this vector as it is:

    >>> skewed = np.array([[1.0, 0, 0], [0.49, 0.1, 0], [0, 0, 1.0]])
    >>> minimum_image(np.array([[0.48, 0.098, 0.0]]), skewed, np.ones(3, bool)).round(6).tolist()
    [[-0.01, -0.002, 0.0]]
    """
    if not pbc.any() or not len(vectors):
        return np.array(vectors, dtype=np.float64)
    lattice, _ = reduced_cell(complete_cell(cell, pbc), pbc)
    turns = np.where(pbc, np.rint(vectors @ np.linalg.inv(lattice)), 0.0)
    best = vectors - turns @ lattice
    length = (best**2).sum(axis=1)
    # An image no longer than the rounded vector is at most that many planes away.
    reach = np.where(pbc, np.floor(np.sqrt(length.max()) / plane_spacings(lattice) + 0.5), 0).astype(np.int64)
    rounded = best.copy()
    for shift in shifts_within(reach):
        candidate = rounded + shift @ lattice
        candidate_length = (candidate**2).sum(axis=1)
        shorter = candidate_length < length
        best[shorter], length[shorter] = candidate[shorter], candidate_length[shorter]
    return best
