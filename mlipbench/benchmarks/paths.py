"""Along which lines are atoms pulled apart?

dimer      two lone atoms, for each pair of elements
atom       the outermost atom of a molecule, along a random direction
molecule   one molecule from another, along a random direction
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.benchmarks.frames import FRAMES_PER_CALL, predict
from mlipbench.benchmarks.pieces import Piece, joined
from mlipbench.benchmarks.sites import Sites, site_values
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Int, Model
from mlipbench.errors import ModelFailure, NotApplicable
from mlipbench.physics.continuity import Signals
from mlipbench.physics.scans import contact_shift_A

if TYPE_CHECKING:
    from ase import Atoms

KINDS: Final = ("dimer", "atom", "molecule")
CONTACT_A: Final = 2.0  # nearest distance between two molecules where a path begins
N_SIZED: Final = 9  # places on a path that say how large features are


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Atoms that are pulled away from others, along a line.

    Attributes:
        kind: number of its kind in `KINDS`.
        origin: atomic numbers of a dimer; frame numbers of what is pulled and of what it is pulled from.
        start: the atoms where the path begins.
        moved: shape (n_moved,), which of them are pulled.
        direction: shape (3,), of length 1.
        first_A: where the path begins on its own axis: the distance of a dimer, and 0 otherwise.
        last_A: where it ends.
    """

    kind: int
    origin: tuple[int, int]
    start: Atoms
    moved: Int
    direction: Float
    first_A: float
    last_A: float

    def at(self, place_A: float) -> Atoms:
        """Return the atoms at a place on the path."""
        atoms = self.start.copy()
        atoms.positions[self.moved] += (place_A - self.first_A) * self.direction
        return atoms

    def pull(self, forces: Float) -> float:
        """Return the force along the path in eV/Å: minus the slope of the energy."""
        return float((forces[self.moved] @ self.direction).sum())


def dimers(numbers: Sequence[int], *, last_A: float, max_pairs: int) -> tuple[Path, ...]:
    """Return paths of two lone atoms from the sum of their covalent radii outward.

    Args:
        numbers: atomic numbers of the elements.
        last_A: longest distance.
        max_pairs: of all pairs so many are taken, evenly spaced.
    """
    from ase import Atoms
    from ase.data import covalent_radii

    pairs = list(combinations_with_replacement(sorted(numbers), 2))
    steps = np.floor(np.arange(min(max_pairs, len(pairs))) * len(pairs) / max(min(max_pairs, len(pairs)), 1))
    x = np.array([1.0, 0.0, 0.0])
    paths = []
    for one, other in (pairs[int(k)] for k in steps):
        near_A = float(covalent_radii[one] + covalent_radii[other])
        start = Atoms(numbers=[one, other], positions=[[0.0, 0.0, 0.0], near_A * x])
        paths.append(Path(kind=0, origin=(one, other), start=start, moved=np.array([1]), direction=x,
                          first_A=near_A, last_A=last_A))  # fmt: skip
    return tuple(paths)


def pulled_atoms(pieces: Sequence[Piece], rng: np.random.Generator, *, length_A: float) -> tuple[Path, ...]:
    """Return a path for each piece of two atoms or more: its outermost atom along a random direction leaves it.

    As it is the outermost one along its direction, it only ever moves away from all others.
    """
    paths = []
    for piece in pieces:
        direction = _random_direction(rng)
        outermost = int(np.argmax(piece.atoms.positions @ direction))
        if len(piece.atoms) > 1:
            paths.append(Path(kind=1, origin=(piece.frame, piece.frame), start=piece.atoms, first_A=0.0,
                              moved=np.array([outermost]), direction=direction, last_A=length_A))  # fmt: skip
    return tuple(paths)


def pulled_molecules(pieces: Sequence[Piece], rng: np.random.Generator, *, length_A: float) -> tuple[Path, ...]:
    """Return a path for each piece and the next: from contact outward along a random direction; not of two atoms."""
    paths = []
    for fixed, moved in zip(pieces, (*pieces[1:], *pieces[:1]), strict=True):
        direction = _random_direction(rng)
        shift_A = contact_shift_A(fixed.atoms.positions, moved.atoms.positions, direction, gap_A=CONTACT_A)
        start = joined([fixed.atoms, moved.atoms], np.array([0.0 * direction, shift_A * direction]))
        rows = np.arange(len(fixed.atoms), len(start))
        if len(start) > 2:
            paths.append(Path(kind=2, origin=(moved.frame, fixed.frame), start=start, moved=rows,
                              direction=direction, first_A=0.0, last_A=length_A))  # fmt: skip
    return tuple(paths)


def _random_direction(rng: np.random.Generator) -> Float:
    """Return a vector of length 1, uniform over all directions."""
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def unit_of(kind: int, origin: Sequence[int], data: Dataset) -> str:
    """Return the independent unit of a path: its pair of elements, or the trajectory its pulled atoms come from."""
    return label_of(kind, origin, data) if KINDS[kind] == "dimer" else data.trajectory[origin[0]]


def label_of(kind: int, origin: Sequence[int], data: Dataset) -> str:
    """Return what figures call a path."""
    from ase.data import chemical_symbols

    if KINDS[kind] == "dimer":
        return "–".join(chemical_symbols[number] for number in origin)
    moved, fixed = (data.uid[frame] for frame in origin)
    return f"atom of {moved}" if KINDS[kind] == "atom" else f"{moved} from {fixed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What a model says along a path.

    Attributes:
        path: it.
        places_A: shape (n_points,), evenly spaced.
        energy: shape (n_points,), eV.
        forces: shape (n_points, n_atoms, 3), eV/Å.
    """

    path: Path
    places_A: Float
    energy: Float
    forces: Float


def sample(model: Model, path: Path, places_A: Float, context: Context) -> Sampled:
    """Ask a model along a path.

    Raises:
        ModelFailure: the model is at fault.
        NotApplicable: the model does not cover these atoms.
    """
    said = predict(model, [path.at(place) for place in places_A.tolist()], context, remark="paths")
    forces = said.forces.reshape(len(places_A), len(path.start), 3)
    return Sampled(path=path, places_A=places_A, energy=said.energy, forces=forces)


def sample_covered(
    model: Model, paths: Sequence[Path], context: Context, *, n_points: int
) -> tuple[tuple[Sampled, ...], int, dict[int, str]]:
    """Ask a model along each path that it covers.

    Returns:
        What it says, the number of paths that it does not cover, and why it failed on others, by their number.

    Raises:
        ModelFailure: the model is at fault, on every path that it covers.
        NotApplicable: it covers none.
    """
    found: list[Sampled] = []
    refusals: list[NotApplicable] = []
    failed: dict[int, str] = {}
    for number, path in enumerate(paths):
        try:
            found.append(sample(model, path, np.linspace(path.first_A, path.last_A, n_points), context))
        except NotApplicable as refusal:
            refusals.append(refusal)
        except ModelFailure as failure:
            failed[number] = str(failure)
    if failed and not found:
        raise ModelFailure(next(iter(failed.values())))
    if refusals and not found:
        raise refusals[0]
    return tuple(found), len(refusals), failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """A model that is asked for places on paths, as `physics.continuity.narrow` wants it.

    Attributes:
        model: to ask.
        paths: numbered.
        context: to report to.
    """

    model: Model
    paths: Sequence[Path]
    context: Context

    def __call__(self, numbers: Sequence[int], places_A: Sequence[float]) -> list[Signals]:
        """Return the energy (eV), as one vector of one component, and the forces (eV/Å) at each place."""
        frames = [self.paths[k].at(place) for k, place in zip(numbers, places_A, strict=True)]
        said = predict(self.model, frames, self.context, remark="closer looks")
        forces = np.split(said.forces, said.offsets[1:-1])
        return [(np.full((1, 1), energy), force) for energy, force in zip(said.energy, forces, strict=True)]


def sized(model: Model, paths: Sequence[Path], context: Context) -> tuple[tuple[Path, ...], Sites]:
    """Return the paths that a model of single atoms covers, and what it says at a few places on each of them.

    Raises:
        ModelFailure: the model is at fault.
        NotApplicable: it covers none.
    """
    covered: list[Path] = []
    found: list[Sites] = []
    refusals: list[NotApplicable] = []
    for path in paths:
        frames = [path.at(place) for place in np.linspace(path.first_A, path.last_A, N_SIZED).tolist()]
        try:
            found.append(site_values(model, frames, context, remark="sizes of features"))
        except NotApplicable as refusal:
            refusals.append(refusal)
        else:
            covered.append(path)
    if not found:
        raise refusals[0]
    values = np.concatenate([one.values for one in found])
    return tuple(covered), Sites(values=values, round_off=np.max([one.round_off for one in found], axis=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureAsker:
    """A model of single atoms that is asked for places on one path, as `physics.continuity.narrow` wants it.

    Attributes:
        model: to ask.
        path: along which.
        units: shape (n_features,), factors of the features.
        context: to report to.
    """

    model: Model
    path: Path
    units: Float
    context: Context

    def __call__(self, _: Sequence[int], places_A: Sequence[float]) -> list[Signals]:
        """Return the features of all atoms at each place, each of shape (n_atoms, n_features)."""
        frames = [self.path.at(place) for place in places_A]
        said = site_values(self.model, frames, self.context, remark="closer looks")
        return [(features,) for features in np.split(said.values * self.units, len(places_A))]

    def along(self, places_A: Float, directions: Float) -> Float:
        """Return the features at many places along some directions only, as all of them may not fit into memory.

        Args:
            places_A: shape (n_points,).
            directions: shape (n_features, n_directions).

        Returns:
            Shape (n_points, n_atoms, n_directions).
        """
        calls = np.split(places_A, np.arange(FRAMES_PER_CALL, len(places_A), FRAMES_PER_CALL))
        return np.array([features @ directions for call in calls for (features,) in self([], call.tolist())])
