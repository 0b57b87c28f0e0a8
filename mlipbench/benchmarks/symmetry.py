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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from mlipbench.benchmarks.comparison import bars, value_of
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.operations import OPERATIONS, PERIODIC_ONLY, Moved, covered_frames
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model, Predictions
from mlipbench.core.view import Axis, View
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM, MEV_PER_EV

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
        chosen = covered_frames(model, data, n_frames=self.n_frames, max_atoms=self.max_atoms)
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
