"""Which pieces of matter are taken alone, and how are they put beside each other?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.benchmarks.frames import spread_out
from mlipbench.benchmarks.molecular import Molecular, molecular
from mlipbench.benchmarks.operations import random_rotation
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.cells import minimum_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

LARGEST: Final = 40  # atoms; larger molecules, such as polymers and grains of metal, are no pieces
CLUSTER: Final = 8  # atoms of a piece cut out where there are no molecules
ENOUGH: Final = 40  # atoms; smaller cells are repeated before a piece is cut out


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A molecule of the data alone in vacuum, or a few neighbours cut out of a crystal.

    Attributes:
        atoms: whole, without a cell, its centroid at the origin.
        unit: the trajectory it comes from.
        frame: number of its frame in the data set.
    """

    atoms: Atoms
    unit: str
    frame: int


def pieces(data: Dataset, n: int, rng: np.random.Generator, *, lone_elements: Sequence[str]) -> tuple[Piece, ...]:
    """Return one molecule from each of up to n frames that are spread over the data.

    Where there are no molecules, as in crystals, it is an atom and its nearest neighbours, cut out.

    Args:
        data: to take them from.
        n: how many.
        rng: chooses the molecule of a frame, and turns it.
        lone_elements: symbols of elements that are never bonded.

    Raises:
        BadInput: n is below 1, or a frame has another number of charges than of molecules.
        NotApplicable: there are no frames.
    """
    if n < 1:
        raise BadInput(f"{n} molecules are asked for; it must be 1 or more")
    frames = spread_out(data, n)
    try:
        found = molecular(data, frames, lone_elements=lone_elements)
    except NotApplicable:
        return tuple(cut_out(data, frame, rng) for frame in frames.tolist())
    pieces = [_piece(data, found, place, rng) for place in range(len(found.frames))]
    small = tuple(piece for piece in pieces if len(piece.atoms) <= LARGEST)
    return small or tuple(cut_out(data, frame, rng) for frame in frames.tolist())


def _piece(data: Dataset, found: Molecular, place: int, rng: np.random.Generator) -> Piece:
    """Take one molecule out of the frame at a place of those found, and turn it."""
    from ase import Atoms

    before = int(found.molecules_in_frame[:place].sum())
    number = int(rng.integers(found.molecules_in_frame[place]))
    rows = np.flatnonzero(found.molecule == before + number)
    frame = int(found.frames[place])
    first = int(np.flatnonzero(found.frame_of_atom == place)[0])
    positions = found.positions[rows]
    positions = (positions - positions.mean(axis=0)) @ random_rotation(rng).T
    atoms = Atoms(numbers=data.frames[frame].numbers[rows - first], positions=positions, masses=found.masses[rows])
    charge = _charge(data, frame, number, int(found.molecules_in_frame[place]))
    if charge:
        atoms.info["charge"] = charge
    return Piece(atoms=atoms, unit=data.trajectory[frame], frame=frame)


def _charge(data: Dataset, frame: int, number: int, n_molecules: int) -> int:
    """Return the charge of a frame's molecule; neutral where the data set says nothing."""
    if data.molecule_charges is None:
        return int(data.frames[frame].info.get("charge", 0)) if n_molecules == 1 else 0
    given = data.molecule_charges[frame]
    if len(given) != n_molecules:
        raise BadInput(
            f"frame {data.uid[frame]} has {n_molecules} molecules but {len(given)} molecule charges; give one each"
        )
    return given[number]


def cut_out(data: Dataset, frame: int, rng: np.random.Generator) -> Piece:
    """Cut an atom and its nearest neighbours out of a frame, and turn them."""
    atoms = data.frames[frame]
    if len(atoms) < ENOUGH:
        atoms = atoms.repeat(np.where(atoms.pbc, 3, 1))
    centre = int(rng.integers(len(atoms)))
    apart = minimum_image(atoms.positions - atoms.positions[centre], atoms.cell.array, atoms.pbc)
    nearest = np.argsort(np.linalg.norm(apart, axis=1), kind="stable")[:CLUSTER]
    cut = atoms[nearest]
    cut.info = {}
    cut.set_constraint()  # fixed atoms would stay behind
    cut.set_pbc(False)
    cut.set_cell(None)
    cut.set_positions((apart[nearest] - apart[nearest].mean(axis=0)) @ random_rotation(rng).T)
    return Piece(atoms=cut, unit=data.trajectory[frame], frame=frame)


def joined(parts: Sequence[Atoms], shifts_A: Float) -> Atoms:
    """Return one frame of several parts, each shifted; their charges add up.

    Args:
        parts: without a cell.
        shifts_A: shape (n_parts, 3).

    >>> from ase import Atoms
    >>> joined([Atoms("H"), Atoms("He")], np.array([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])).get_distance(0, 1).item()
    5.0
    """
    whole = parts[0][:0]
    whole.info = {}
    for part, shift_A in zip(parts, shifts_A, strict=True):
        moved = part.copy()
        moved.translate(shift_A)
        whole += moved
    charge = sum(part.info.get("charge", 0) for part in parts)
    if charge:
        whole.info["charge"] = charge
    return whole
