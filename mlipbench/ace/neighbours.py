"""Pairs of atoms within a cutoff, sorted by centre, with every periodic image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.ace.kernels import pair_vectors, search_pairs
from mlipbench.core.model import Bool, Float, Int
from mlipbench.errors import BadInput, ModelFailure

if TYPE_CHECKING:
    from ase import Atoms

MOST_ATOMS_BY_PAIRS = 600  # beyond, cells are faster
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
    return _search(frame, cutoff_A)[0]


class SkinList:
    """Neighbours that are searched anew only when atoms have moved far enough to let an unlisted pair come in.

    The list reaches `skin_A` beyond the cutoff, and stands while no pair can have come through the skin: twice the
    longest way of an atom, beyond what a change of the cell does to all, plus the strain of the longest pair.

    Source: Verlet, Phys. Rev. 159, 98 (1967).
    """

    def __init__(self, cutoff_A: float, *, skin_A: float = 0.5) -> None:
        """Start with no list.

        Raises:
            BadInput: the skin is negative or not finite.
        """
        if not 0 <= skin_A < np.inf:
            raise BadInput(f"the neighbour list's skin_A is {skin_A}; it must be 0 Å or more")
        self.cutoff_A, self.skin_A = cutoff_A, skin_A
        self.n_searches = 0
        self._known: _Known | None = None

    def pairs(self, frame: Atoms) -> Neighbours:
        """Return all pairs of a frame within the cutoff, and perhaps some within the skin.

        Raises:
            BadInput, ModelFailure: as `neighbours`.
        """
        positions = frame.get_positions()
        if self._known is None or not self._known.covers(frame, positions, self.cutoff_A, self.skin_A):
            self._known = None
            found, shift = _search(frame, self.cutoff_A + self.skin_A)
            self._known = _Known(found, shift, frame.copy())
            self.n_searches += 1
            return found
        known = self._known.pairs
        vector = np.empty_like(known.vector)
        pair_vectors(positions, frame.cell.array, known.start, known.index, self._known.shift, vector)
        _refuse_overlap(np.repeat(np.arange(len(frame)), np.diff(known.start)), known.index, vector)
        return Neighbours(start=known.start, index=known.index, vector=vector)


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A list and the frame it was searched in.

    Attributes:
        pairs: the list.
        shift: shape (n_pairs, 3), lattice vectors added to each neighbour.
        frame: a copy.
    """

    pairs: Neighbours
    shift: Float
    frame: Atoms

    def covers(self, frame: Atoms, positions: Float, cutoff_A: float, skin_A: float) -> bool:
        """Return whether no pair within the cutoff can be missing; `positions` are those of the new frame.

        With lattice vectors C' = C F and positions x' = x F + u a pair vector v becomes v F + u_j - u_i, so that
        |v'| ≥ |v| (1 - |F - 1|) - 2 max |u|.
        """
        old = self.frame
        if len(old) != len(frame) or (old.pbc != frame.pbc).any() or not np.isfinite(positions).all():
            return False
        moved = positions - old.positions
        strain = 0.0
        change = frame.cell.array[frame.pbc] - old.cell.array[frame.pbc]
        if change.any():
            deformation = np.linalg.pinv(old.cell.array[frame.pbc]) @ change
            strain = float(np.linalg.norm(deformation, 2))
            moved = moved - old.positions @ deformation
            moved = moved - moved.mean(axis=0)
        way = float(np.sqrt(np.einsum("ia,ia->i", moved, moved).max(initial=0.0)))
        return (cutoff_A + skin_A) * (1.0 - strain) - 2.0 * way >= cutoff_A


def _search(frame: Atoms, cutoff_A: float) -> tuple[Neighbours, Float]:
    """Return all pairs closer than the cutoff, and the lattice vectors added to each neighbour, shape (n_pairs, 3)."""
    n = len(frame)
    if n == 0:
        empty = np.zeros((0, 3))
        return Neighbours(start=np.zeros(1, np.int64), index=np.zeros(0, np.int64), vector=empty), empty
    positions = frame.get_positions()
    if not np.isfinite(positions).all():
        raise BadInput(f"atom {int(np.argmin(np.isfinite(positions).all(axis=1)))} has a position that is not finite")
    cell = np.asarray(frame.cell.array, dtype=np.float64)
    _refuse_flat(cell, np.asarray(frame.pbc))
    if n <= MOST_ATOMS_BY_PAIRS:
        start, index, shift = _by_pairs(positions, cell, np.asarray(frame.pbc), cutoff_A)
        vector = np.empty((len(index), 3))
        pair_vectors(positions, np.where(frame.pbc[:, None], cell, 0.0), start, index, shift, vector)
    else:
        start, index, vector, shift = _by_cells(positions, cell, frame.pbc, cutoff_A)
    _refuse_overlap(np.repeat(np.arange(n), np.diff(start)), index, vector)
    return Neighbours(start=start, index=index, vector=vector), shift


def _by_pairs(positions: Float, cell: Float, periodic: Bool, cutoff_A: float) -> tuple[Int, Int, Float]:
    """Return start, neighbour and shift by a look at every pair of atoms: the fastest way for few."""
    inverse = np.zeros((3, 3))
    if periodic.any():
        inverse[:, periodic] = np.linalg.pinv(cell[periodic])
    fractional = positions @ inverse
    whole = np.floor(fractional)
    # Half the number of images along each lattice vector that a sphere of the cutoff reaches.
    reach = cutoff_A * np.linalg.norm(inverse, axis=0)
    own = np.where(periodic[:, None], cell, 0.0)
    inside = positions - whole @ own
    start = np.zeros(len(positions) + 1, dtype=np.int64)
    nothing, none = np.zeros(0, np.int64), np.zeros((0, 3))
    search_pairs(inside, fractional - whole, own, reach, cutoff_A, start, nothing, none)
    start = np.cumsum(start)
    index, shift = np.zeros(start[-1], np.int64), np.zeros((start[-1], 3))
    search_pairs(inside, fractional - whole, own, reach, cutoff_A, start, index, shift)
    shift += np.repeat(whole, np.diff(start), axis=0) - whole[index]
    return start, index, shift


def _by_cells(positions: Float, cell: Float, periodic: Bool, cutoff_A: float) -> tuple[Int, Int, Float, Float]:
    """Return start, neighbour, vector and shift by matscipy, whose cost per atom does not grow with their number."""
    from matscipy.neighbours import neighbour_list

    enclosing, origin = box(positions, cell, periodic, cutoff_A)
    centre, index, vector, shift = neighbour_list(
        "ijDS", cutoff=cutoff_A, positions=positions, cell=enclosing, pbc=periodic, cell_origin=origin
    )
    start = np.searchsorted(centre, np.arange(len(positions) + 1))
    return start.astype(np.int64), index.astype(np.int64), np.ascontiguousarray(vector), shift.astype(np.float64)


def _refuse_flat(cell: Float, periodic: Bool) -> None:
    """Raise when the periodic cell vectors span no volume."""
    kept = cell[periodic]
    if not np.isfinite(kept).all() or (len(kept) and np.linalg.matrix_rank(kept) < len(kept)):
        raise BadInput(
            f"the cell {cell.tolist()} is periodic along vectors that span no volume; give it a cell, or pbc=False"
        )


def box(positions: Float, cell: Float, periodic: Bool, cutoff_A: float) -> tuple[Float, Float]:
    """Return a cell, shape (3, 3), and its origin, that keep the periodic vectors and enclose all atoms otherwise.

    Raises:
        BadInput: the periodic cell vectors span no volume.
    """
    _refuse_flat(cell, periodic)
    kept = cell[periodic]
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
