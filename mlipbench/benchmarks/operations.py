"""How is a frame moved without changing what physics says of it, and which frames are moved?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.benchmarks.frames import spread_out
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Int, Model
from mlipbench.errors import BadInput, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

FARTHEST_SHIFT_A: Final = 20.0
EXTENSIVE: Final = ("charge", "total_charge")  # of a frame's info
UNPAIRED: Final = ("spin", "total_spin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A frame after an operation, and the way back.

    Attributes:
        atoms: the frame to ask for.
        row: shape (n,), row of the original frame's atom of which each atom of the new frame is an image.
        matrix: shape (3, 3), the operation on vectors; the unit matrix when there is none.
    """

    atoms: Atoms
    row: Int
    matrix: Float


def _permutation(atoms: Atoms, rng: np.random.Generator) -> Moved:
    """Put the atoms in another order."""
    order = rng.permutation(len(atoms))
    return Moved(atoms=atoms[order], row=order, matrix=np.eye(3))


def _rotation(atoms: Atoms, rng: np.random.Generator) -> Moved:
    """Turn positions and cell."""
    return _turned(atoms, random_rotation(rng))


def _reflection(atoms: Atoms, rng: np.random.Generator) -> Moved:
    """Turn and invert positions and cell."""
    return _turned(atoms, -random_rotation(rng))


def _turned(atoms: Atoms, matrix: Float) -> Moved:
    """Apply an orthogonal matrix."""
    moved = atoms.copy()
    # The lattice is its own inversion image, so its vectors can stay right-handed, as many codes want them.
    moved.set_cell(
        atoms.cell.array @ matrix.T * np.sign(np.linalg.det(matrix)), scale_atoms=False, apply_constraint=False
    )
    moved.set_positions(atoms.positions @ matrix.T, apply_constraint=False)
    return Moved(atoms=moved, row=np.arange(len(atoms)), matrix=matrix)


def _translation(atoms: Atoms, rng: np.random.Generator) -> Moved:
    """Move all atoms alike."""
    moved = atoms.copy()
    moved.translate(rng.uniform(-FARTHEST_SHIFT_A, FARTHEST_SHIFT_A, size=3))
    return Moved(atoms=moved, row=np.arange(len(atoms)), matrix=np.eye(3))


def _wrap(atoms: Atoms, rng: np.random.Generator) -> Moved:
    """Move single atoms by lattice vectors."""
    turns = np.where(atoms.pbc, rng.integers(-1, 2, size=(len(atoms), 3)), 0)
    turns[0] = atoms.pbc  # at least one atom moves
    moved = atoms.copy()
    moved.set_positions(atoms.positions + turns @ atoms.cell.array, apply_constraint=False)
    return Moved(atoms=moved, row=np.arange(len(atoms)), matrix=np.eye(3))


def _supercell(atoms: Atoms, rng: np.random.Generator) -> Moved:
    """Double the cell along one periodic direction."""
    times = np.ones(3, dtype=int)
    times[rng.choice(np.flatnonzero(atoms.pbc))] = 2
    double = atoms.repeat(times)
    for name in EXTENSIVE:
        if name in atoms.info:
            double.info[name] = 2 * atoms.info[name]
    return Moved(atoms=double, row=np.tile(np.arange(len(atoms)), 2), matrix=np.eye(3))


def can_be_moved(operation: str, atoms: Atoms) -> bool:
    """Tell whether an operation means anything for a frame: lattice vectors do where there are some.

    Two cells with unpaired electrons each have many states, and the frame does not say which one is meant.
    """
    if operation in PERIODIC_ONLY and not atoms.pbc.any():
        return False
    return operation != "supercell" or all(atoms.info.get(name, 0) in (0, 1) for name in UNPAIRED)


OPERATIONS: Final[dict[str, Callable[[Atoms, np.random.Generator], Moved]]] = {
    "permutation": _permutation,
    "rotation": _rotation,
    "reflection": _reflection,
    "translation": _translation,
    "wrap": _wrap,
    "supercell": _supercell,
}
PERIODIC_ONLY: Final = ("wrap", "supercell")


def covered_by(model: Model, data: Dataset) -> tuple[Int, Dataset]:
    """Return the frames that a model says it covers, all where it does not say, and their numbers.

    Raises:
        NotApplicable: it covers none.
    """
    if model.spec.elements is None:
        return np.arange(len(data)), data
    known = set(model.spec.elements)
    numbers = [k for k, atoms in enumerate(data.frames) if set(atoms.symbols) <= known]
    if not numbers:
        raise NotApplicable(
            f"the model covers {', '.join(model.spec.elements)}, and no frame of data set {data.spec.name} holds these"
            " alone"
        )
    return np.array(numbers, dtype=np.int64), data.take(numbers)


def covered_frames(model: Model, data: Dataset, *, n_frames: int, max_atoms: int) -> Int:
    """Return what `frames_to_move` does, among the frames that the model says it covers.

    Raises:
        BadInput: no frames are asked for.
        NotApplicable: it covers none of two atoms or more.
    """
    numbers, known = covered_by(model, data)
    return np.asarray(numbers[frames_to_move(known, n_frames=n_frames, max_atoms=max_atoms)])


def frames_to_move(data: Dataset, *, n_frames: int, max_atoms: int) -> Int:
    """Return frame numbers, ascending, half of them periodic where there are such frames.

    Where all periodic frames are larger than wanted, or all others are, the smallest of them are taken: as many as
    keep the number of atoms at that of so many frames of `max_atoms`, and at least one.

    Args:
        data: to choose from.
        n_frames: how many, at most; one more where that is the only way to have one of each kind.
        max_atoms: larger frames are used only where there are no others; lone atoms never are.

    Raises:
        BadInput: no frames are asked for.
        NotApplicable: no frame has two atoms or more.
    """
    if n_frames < 1:
        raise BadInput(f"n_frames is {n_frames}; it must be 1 or more")
    some = [i for i, atoms in enumerate(data.frames) if len(atoms) > 1]
    if not some:
        raise NotApplicable(f"data set {data.spec.name} has no frame of two atoms or more here")
    most = n_frames * max_atoms
    periodic = _smallest(data, [i for i in some if data.frames[i].pbc.any()], max_atoms, most)
    free = _smallest(data, [i for i in some if not data.frames[i].pbc.any()], max_atoms, most)
    n_periodic = min(len(periodic), max((n_frames + 1) // 2, n_frames - len(free)))
    chosen: list[int] = []
    for numbers, n in ((periodic, n_periodic), (free, max(n_frames - n_periodic, 1))):
        if numbers and n > 0:
            chosen += [numbers[k] for k in spread_out(data.take(numbers), n)]
    return np.array(sorted(chosen), dtype=np.int64)


def _smallest(data: Dataset, numbers: list[int], max_atoms: int, most: int) -> list[int]:
    """Return the frames up to a size; where there are none, the smallest one and others while all atoms are few."""
    small = [i for i in numbers if len(data.frames[i]) <= max_atoms]
    if small or not numbers:
        return small
    numbers = sorted(numbers, key=lambda i: len(data.frames[i]))
    total = np.cumsum([len(data.frames[i]) for i in numbers])
    return sorted(numbers[: max(int(np.searchsorted(total, most, side="right")), 1)])


def random_rotation(rng: np.random.Generator) -> Float:
    """Return a proper rotation, uniform over all of them, shape (3, 3).

    >>> turn = random_rotation(np.random.default_rng(0))
    >>> bool(np.allclose(turn @ turn.T, np.eye(3))), round(float(np.linalg.det(turn)), 12)
    (True, 1.0)
    """
    orthogonal, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    orthogonal = orthogonal * np.sign(np.diag(upper))
    return np.asarray(orthogonal * np.sign(np.linalg.det(orthogonal)))
