"""Pairs of atoms within a cutoff, sorted by centre, with every periodic image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.core.model import Float, Int
from mlipbench.errors import BadInput, ModelFailure

if TYPE_CHECKING:
    from ase import Atoms

SMALLEST_DISTANCE_A = 1e-3  # closer than that, a direction is round-off


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """Neighbours of each atom of one frame.

    Attributes:
        start: shape (n_atoms + 1,), first pair of each centre, and the number of pairs.
        index: shape (n_pairs,), the neighbour.
        vector: shape (n_pairs, 3), from the centre to that image of the neighbour, Å.
    """

    start: Int
    index: Int
    vector: Float


def neighbours(frame: Atoms, cutoff_A: float) -> Neighbours:
    """Return all pairs closer than the cutoff; an atom may be its own neighbour through an image.

    Directions without periodicity need no cell vector, and one that is there is ignored.

    Raises:
        BadInput: a position is not finite, or the periodic cell vectors span no volume.
        ModelFailure: two atoms lie on top of each other.
    """
    from matscipy.neighbours import neighbour_list

    n = len(frame)
    if n == 0:
        return Neighbours(start=np.zeros(1, np.int64), index=np.zeros(0, np.int64), vector=np.zeros((0, 3)))
    positions = frame.get_positions()
    if not np.isfinite(positions).all():
        raise BadInput(f"atom {int(np.argmin(np.isfinite(positions).all(axis=1)))} has a position that is not finite")
    cell, origin = box(positions, np.asarray(frame.cell.array, dtype=np.float64), np.asarray(frame.pbc), cutoff_A)
    centre, index, vector = neighbour_list(
        "ijD", cutoff=cutoff_A, positions=positions, cell=cell, pbc=frame.pbc, cell_origin=origin
    )
    _refuse_overlap(centre, index, vector)
    start = np.searchsorted(centre, np.arange(n + 1))
    return Neighbours(start=start.astype(np.int64), index=index.astype(np.int64), vector=np.ascontiguousarray(vector))


def box(positions: Float, cell: Float, periodic: np.ndarray, cutoff_A: float) -> tuple[Float, Float]:
    """Return a cell, shape (3, 3), and its origin, that keep the periodic vectors and enclose all atoms otherwise.

    Raises:
        BadInput: the periodic cell vectors span no volume.
    """
    kept = cell[periodic]
    if not np.isfinite(kept).all() or (len(kept) and np.linalg.matrix_rank(kept) < len(kept)):
        raise BadInput(
            f"the cell {cell.tolist()} is periodic along vectors that span no volume; give it a cell, or pbc=False"
        )
    if len(kept) == 3:
        return cell, np.zeros(3)
    # Directions perpendicular to all periodic vectors: their coordinates do not change from image to image.
    free = np.eye(3) if not len(kept) else np.linalg.svd(kept)[2][len(kept) :]
    along = positions @ free.T
    low, high = along.min(axis=0) - cutoff_A, along.max(axis=0) + cutoff_A
    result = cell.copy()
    result[~periodic] = free * (high - low)[:, None]
    return result, low @ free


def _refuse_overlap(centre: Int, index: Int, vector: Float) -> None:
    """Raise when two atoms share a place, since there is no direction between them."""
    if not len(vector):
        return
    squares = np.einsum("pa,pa->p", vector, vector)
    pair = int(np.argmin(squares))
    if squares[pair] < SMALLEST_DISTANCE_A**2:
        raise ModelFailure(
            f"atoms {centre[pair]} and {index[pair]} are {squares[pair] ** 0.5:.1e} Å apart; "
            f"the ACE has no answer below {SMALLEST_DISTANCE_A} Å"
        )
