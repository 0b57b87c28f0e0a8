"""Pairs of atoms within a cutoff, sorted by centre, with every periodic image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.ace.shells import pair_vectors, search_pairs
from mlipbench.core.model import Bool, Float, Int
from mlipbench.errors import BadInput, ModelFailure

if TYPE_CHECKING:
    from ase import Atoms

MOST_ATOMS_BY_PAIRS = 600  # beyond, cells are faster
MOST_CHECKS = 1e9  # distances looked at in one search: seconds, at worst some tens of them
MOST_CELLS = 1e8  # of a cell list: some hundred megabytes
MOST_PAIRS = 30_000_000  # of the pair search: some gigabytes
FARTHEST_A = 1e12  # beyond, a coordinate has no digits left for distances
SMALLEST_DISTANCE_A = 1e-3  # closer than that, a direction is round-off


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """Neighbours of each atom of one frame.

    Attributes:
        start: shape (n_atoms + 1,), first pair of each centre, and the number of pairs.
        index: shape (n_pairs,), the neighbour.
        vector: shape (n_pairs, 3), from the centre to that image of the neighbour, Å.
        shift: shape (n_pairs, 3), lattice vectors added to the neighbour to get that image.
    """

    start: Int
    index: Int
    vector: Float
    shift: Float


def neighbours(frame: Atoms, cutoff_A: float) -> Neighbours:
    """Return all pairs closer than the cutoff; an atom may be its own neighbour through an image.

    Directions without periodicity need no cell vector, and one that is there is ignored.

    Raises:
        BadInput: a position is not finite or beyond 1e12 Å, the periodic cell vectors span no volume, or so little that
            a search takes more than 1e9 distances.
        ModelFailure: two atoms lie on top of each other.
    """
    return _search(frame, cutoff_A)


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
        known = self.listed(frame)
        vector = np.empty_like(known.vector)
        pair_vectors(frame.positions, _periodic_cell(frame), known.start, known.index, known.shift, vector)
        _refuse_overlap(np.repeat(np.arange(len(frame)), np.diff(known.start)), known.index, vector)
        return replace(known, vector=vector)

    def listed(self, frame: Atoms) -> Neighbours:
        """Return the list that holds all pairs of a frame; its vectors are those of the frame it was searched in.

        The list is the same object until it is searched anew.

        Raises:
            BadInput, ModelFailure: as `neighbours`.
        """
        known = self._known
        if known is None or not known.covers(frame, self.cutoff_A, self.skin_A):
            self._known = None
            known = _Known(_search(frame, self.cutoff_A + self.skin_A), frame.copy())
            self._known = known
            self.n_searches += 1
        return known.pairs

    @property
    def searched(self) -> Atoms | None:
        """The frame in which the list was searched; `listed` of it, and then of another, gives the same list again."""
        return None if self._known is None else self._known.frame


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A list and the frame it was searched in.

    Attributes:
        pairs: the list.
        frame: a copy.
    """

    pairs: Neighbours
    frame: Atoms

    def covers(self, frame: Atoms, cutoff_A: float, skin_A: float) -> bool:
        """Return whether no pair of the new frame within the cutoff can be missing.

        With lattice vectors C' = C F and positions x' = x F + u a pair vector v becomes v F + u_j - u_i, so that
        |v'| ≥ |v| (1 - |F - 1|) - 2 max |u|.
        """
        old, positions = self.frame, frame.positions
        if len(old) != len(frame) or (old.pbc != frame.pbc).any():
            return False
        cell = frame.cell.array[frame.pbc]
        if not (np.isfinite(positions).all() and np.isfinite(cell).all() and (np.abs(positions) <= FARTHEST_A).all()):
            return False
        moved = positions - old.positions
        strain = 0.0
        change = cell - old.cell.array[frame.pbc]
        if change.any():
            deformation = np.linalg.pinv(old.cell.array[frame.pbc]) @ change
            strain = float(np.linalg.norm(deformation, 2))
            moved = moved - old.positions @ deformation
            moved = moved - moved.mean(axis=0)
        way = float(np.sqrt(np.einsum("ia,ia->i", moved, moved).max(initial=0.0)))
        return (cutoff_A + skin_A) * (1.0 - strain) - 2.0 * way >= cutoff_A


def _search(frame: Atoms, cutoff_A: float) -> Neighbours:
    """Return all pairs closer than the cutoff."""
    n = len(frame)
    if n == 0:
        empty = np.zeros((0, 3))
        return Neighbours(start=np.zeros(1, np.int64), index=np.zeros(0, np.int64), vector=empty, shift=empty)
    positions, periodic = frame.get_positions(), np.asarray(frame.pbc)
    _refuse_far(positions)
    _refuse_flat(np.asarray(frame.cell.array, dtype=np.float64), periodic)
    cell = _periodic_cell(frame)
    inverse = np.zeros((3, 3))
    if periodic.any():
        inverse[:, periodic] = np.linalg.pinv(cell[periodic], rcond=0.0)
    fractional = positions @ inverse
    whole = np.floor(fractional)
    inside = positions - whole @ cell
    found = _by_cells(inside, cell, periodic, cutoff_A) if n > MOST_ATOMS_BY_PAIRS else None
    start, index, shift = found or _by_pairs(inside, fractional - whole, cell, inverse, cutoff_A)
    shift += np.repeat(whole, np.diff(start), axis=0) - whole[index]
    vector = np.empty((len(index), 3))
    pair_vectors(positions, cell, start, index, shift, vector)
    _refuse_overlap(np.repeat(np.arange(n), np.diff(start)), index, vector)
    return Neighbours(start=start, index=index, vector=vector, shift=shift)


def _periodic_cell(frame: Atoms) -> Float:
    """Return the lattice vectors, shape (3, 3), with zeros along directions that are not periodic."""
    cell: Float = np.where(frame.pbc[:, None], frame.cell.array, 0.0)
    return cell


def _by_pairs(inside: Float, fractional: Float, cell: Float, inverse: Float, cutoff_A: float) -> tuple[Int, Int, Float]:
    """Return start, neighbour and shift by a look at every pair of atoms: the fastest way for few.

    Args:
        inside: shape (n_atoms, 3), positions inside the cell along periodic directions.
        fractional: shape (n_atoms, 3), the same in lattice vectors; zero along directions that are not periodic.
        cell: shape (3, 3), zero where not periodic.
        inverse: shape (3, 3), of the cell.
        cutoff_A: Å.
    """
    # Half the number of images along each lattice vector that a sphere of the cutoff reaches.
    reach = cutoff_A * np.linalg.norm(inverse, axis=0)
    _refuse_long_search(float(np.prod(2.0 * reach + 1.0)) * len(inside) ** 2, len(inside), cutoff_A)
    start = np.zeros(len(inside) + 1, dtype=np.int64)
    nothing, none = np.zeros(0, np.int64), np.zeros((0, 3))
    search_pairs(inside, fractional, cell, reach, cutoff_A, start, nothing, none)
    start = np.cumsum(start)
    if start[-1] > MOST_PAIRS:
        raise BadInput(
            f"{start[-1]} pairs of {len(inside)} atoms are closer than {cutoff_A} Å; at most {MOST_PAIRS} are listed: "
            "check that the cell and the positions are in Å"
        )
    index, shift = np.zeros(start[-1], np.int64), np.zeros((start[-1], 3))
    search_pairs(inside, fractional, cell, reach, cutoff_A, start, index, shift)
    return start, index, shift


def _by_cells(inside: Float, cell: Float, periodic: Bool, cutoff_A: float) -> tuple[Int, Int, Float] | None:
    """Return start, neighbour and shift by matscipy, whose cost per atom does not grow with their number.

    Where atoms are so far apart that it would need too many cells, return None.
    """
    from matscipy.neighbours import neighbour_list

    enclosing, origin = box(inside, cell, periodic, cutoff_A)
    inverse = np.linalg.inv(enclosing)
    across = cutoff_A * np.linalg.norm(inverse, axis=0)  # cutoff over the distance of lattice planes
    counts = np.maximum(np.floor(1.0 / across), 1.0)
    if counts.prod() > MOST_CELLS:
        return None
    place = np.clip(np.floor((inside - origin) @ inverse * counts), 0.0, counts - 1.0)
    crowds = np.unique(place @ [1.0, counts[0], counts[0] * counts[1]], return_counts=True)[1].astype(np.float64)
    _refuse_long_search(float(np.prod(2.0 * np.ceil(across * counts) + 1.0) * (crowds @ crowds)), len(inside), cutoff_A)
    centre, index, shift = neighbour_list(
        "ijS", cutoff=cutoff_A, positions=inside, cell=enclosing, pbc=periodic, cell_origin=origin
    )
    start = np.searchsorted(centre, np.arange(len(inside) + 1))
    return start.astype(np.int64), index.astype(np.int64), shift.astype(np.float64)


def _refuse_long_search(checks: float, n_atoms: int, cutoff_A: float) -> None:
    """Raise when a search would take too long, and its pairs too much memory."""
    if not checks <= MOST_CHECKS:
        raise BadInput(
            f"finding the pairs of {n_atoms} atoms within {cutoff_A} Å, with all periodic images, takes about "
            f"{checks:.0e} distances; at most {MOST_CHECKS:.0e} are possible: "
            "check that the cell and the positions are in Å, and that the cell is not almost flat"
        )


def _refuse_far(positions: Float) -> None:
    """Raise when a position is not finite or too far from the origin."""
    if not np.isfinite(positions).all():
        raise BadInput(f"atom {int(np.argmin(np.isfinite(positions).all(axis=1)))} has a position that is not finite")
    far = np.abs(positions).max(axis=1)
    if far.max() > FARTHEST_A:
        raise BadInput(
            f"atom {int(np.argmax(far))} has a coordinate {far.max():.1e} Å from the origin; beyond {FARTHEST_A:.0e} Å "
            "distances drown in round-off: move the atoms to the origin, or into the cell"
        )


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
