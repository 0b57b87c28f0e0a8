"""Does the model obey the symmetries that physics leaves no choice about?

Every operation is applied to a frame, the model is asked again, and its answer is taken back:

permutation   the atoms stand in another order          E′ = E     F′ = P F
rotation      positions and cell are turned, R proper   E′ = E     F′ = R F     stress′ = R stress Rᵀ
reflection    likewise with an improper R
translation   all atoms are moved alike                 E′ = E     F′ = F
wrap          single atoms move by lattice vectors      E′ = E     F′ = F       periodic frames only
supercell     the cell is doubled along one direction   E′ = 2 E   F′ = (F, F)  periodic frames only
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from mlipbench.benchmarks.comparison import bars, value_of
from mlipbench.benchmarks.frames import predict, spread_out
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model, Predictions
from mlipbench.core.view import Axis, View
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM, MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

FARTHEST_SHIFT_A: Final = 20.0


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
    moved.set_cell(atoms.cell.array @ matrix.T * np.sign(np.linalg.det(matrix)), scale_atoms=False)
    moved.set_positions(atoms.positions @ matrix.T)
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
    moved.set_positions(atoms.positions + turns @ atoms.cell.array)
    return Moved(atoms=moved, row=np.arange(len(atoms)), matrix=np.eye(3))


def _supercell(atoms: Atoms, rng: np.random.Generator) -> Moved:
    """Double the cell along one periodic direction."""
    times = np.ones(3, dtype=int)
    times[rng.choice(np.flatnonzero(atoms.pbc))] = 2
    return Moved(atoms=atoms.repeat(times), row=np.tile(np.arange(len(atoms)), 2), matrix=np.eye(3))


OPERATIONS: Final[dict[str, Callable[[Atoms, np.random.Generator], Moved]]] = {
    "permutation": _permutation,
    "rotation": _rotation,
    "reflection": _reflection,
    "translation": _translation,
    "wrap": _wrap,
    "supercell": _supercell,
}
PERIODIC_ONLY: Final = ("wrap", "supercell")
WITH_STRESS: Final = ("rotation", "reflection")


def _metric(operation: str, what: Literal["energy", "force", "stress"]) -> Metric:
    """Return the definition of one violation."""
    unit, bad, over = {
        "energy": ("meV/atom", 1.0, "of the energy per atom over frames"),
        "force": ("meV/Å", 10.0, "of the force over all three components of all atoms"),
        "stress": ("GPa", 0.01, "of the stress over all nine components of the tensor"),
    }[what]
    return Metric(
        name=f"{operation}_{what}", title=f"{operation.capitalize()}: {what}", unit=unit, better="lower",
        good=1e-6 * bad, bad=bad, log_scale=True,
        says=f"root of the mean squared change {over} under {operation}, beyond the change that physics demands;"
        " interval over trajectories",
    )  # fmt: skip


METRICS: Final = (
    *(_metric(operation, "energy") for operation in OPERATIONS),
    *(_metric(operation, "force") for operation in OPERATIONS),
    *(_metric(operation, "stress") for operation in WITH_STRESS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symmetry:
    """Apply each operation once to a few frames.

    Attributes:
        n_frames: half of them periodic where there are such frames.
        max_atoms: larger frames are not used.
    """

    about: ClassVar[About] = About(
        name="symmetry",
        title="Symmetries",
        question="Does the model obey the symmetries that physics leaves no choice about?",
        metrics=METRICS,
        observe_version=1,
        score_version=1,
        source="invariance of the energy, and equivariance of the rest: F(Rx) = R F(x), stress(Rx) = R stress(x) Rᵀ",
        grade="verification",
        seconds=5.0,
    )

    n_frames: int = 6
    max_atoms: int = 150

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for the frames and all their images; keep what changed.

        Raises:
            BadInput: no frames are asked for.
            NotApplicable: no frame has between two and `max_atoms` atoms.
            ModelFailure: the model is at fault.
        """
        chosen = self._choose(data)
        rng = context.rng()
        frames = [data.frames[i] for i in chosen]
        original = predict(model, frames, context, remark="frames as they are")
        seen: dict[str, Float | Int] = {}
        for operation, apply in OPERATIONS.items():
            own = [k for k, atoms in enumerate(frames) if operation not in PERIODIC_ONLY or atoms.pbc.any()]
            if own:
                moved = [apply(frames[k], rng) for k in own]
                said = predict(model, [one.atoms for one in moved], context, remark=operation)
                seen |= {f"{operation}_frame": chosen[own]}
                seen |= {f"{operation}_{name}": array for name, array in _changes(original, own, moved, said).items()}
        return seen

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return the root mean square of each change."""
        trajectory = np.array(data.trajectory)
        found = []
        for metric in METRICS:
            operation, what = metric.name.split("_")
            if not len(seen.get(metric.name, ())):
                continue
            units = trajectory[seen[f"{operation}_frame"][seen[f"{metric.name}_item"]]]
            found.append(value_of(metric, squares(seen[metric.name] * _SCALE[what]), units, "root_mean"))
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the force changes beside each other."""
        named = {value.metric: value for value in self.score(seen, data)}
        forces = [named[f"{operation}_force"] for operation in OPERATIONS if f"{operation}_force" in named]
        return (bars("Broken symmetry: forces", Axis(quantity="force change", unit="meV/Å"), forces),)

    def _choose(self, data: Dataset) -> Int:
        """Return frame numbers, half of them periodic where there are such frames."""
        if self.n_frames < 1:
            raise BadInput(f"symmetry: n_frames is {self.n_frames}; it must be 1 or more")
        fit = [i for i, atoms in enumerate(data.frames) if 2 <= len(atoms) <= self.max_atoms]
        if not fit:
            raise NotApplicable(
                f"data set {data.spec.name} has no frame of 2 to {self.max_atoms} atoms here; set max_atoms higher"
            )
        periodic = [i for i in fit if data.frames[i].pbc.any()]
        free = [i for i in fit if not data.frames[i].pbc.any()]
        n_periodic = min(len(periodic), max((self.n_frames + 1) // 2, self.n_frames - len(free)))
        chosen: list[int] = []
        for numbers, n in ((periodic, n_periodic), (free, self.n_frames - n_periodic)):
            if numbers and n > 0:
                chosen += [numbers[k] for k in spread_out(data.take(numbers), n)]
        return np.array(sorted(chosen), dtype=np.int64)


_SCALE: Final = {"energy": MEV_PER_EV, "force": MEV_PER_EV, "stress": GPA_PER_EV_PER_CUBIC_ANGSTROM}


def _changes(original: Predictions, own: Sequence[int], moved: Sequence[Moved], said: Predictions) -> dict[str, Float]:
    """Take the answers back to the original frames and subtract the original answers.

    Returns:
        "energy", eV per atom, "force", eV/Å, and "stress", eV/Å^3, and for each the position in `own` of its items.
    """
    energy, forces, stress, force_item, stress_item = [], [], [], [], []
    for k, (frame, image) in enumerate(zip(own, moved, strict=True)):
        before = original.forces[original.offsets[frame] : original.offsets[frame + 1]]
        after = said.forces[said.offsets[k] : said.offsets[k + 1]]
        energy.append(said.energy[k] / said.n_atoms[k] - original.energy[frame] / original.n_atoms[frame])
        forces.append(after @ image.matrix - before[image.row])
        force_item += [k] * len(after)
        if said.has_stress[k] and original.has_stress[frame]:
            stress.append(image.matrix.T @ said.stress[k] @ image.matrix - original.stress[frame])
            stress_item.append(k)
    return {
        "energy": np.array(energy), "energy_item": np.arange(len(own)),
        "force": np.concatenate(forces), "force_item": np.array(force_item),
        "stress": np.array(stress).reshape(-1, 3, 3), "stress_item": np.array(stress_item, dtype=np.int64),
    }  # fmt: skip


def random_rotation(rng: np.random.Generator) -> Float:
    """Return a proper rotation, uniform over all of them, shape (3, 3).

    >>> turn = random_rotation(np.random.default_rng(0))
    >>> bool(np.allclose(turn @ turn.T, np.eye(3))), round(float(np.linalg.det(turn)), 12)
    (True, 1.0)
    """
    orthogonal, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    orthogonal = orthogonal * np.sign(np.diag(upper))
    return np.asarray(orthogonal * np.sign(np.linalg.det(orthogonal)))
