"""Does the model obey the symmetries that physics leaves no choice about?

Every operation is applied to a frame, the model is asked again, and its answer is taken back:

permutation   the atoms stand in another order          E′ = E     F′ = P F
rotation      positions and cell are turned, R proper   E′ = E     F′ = R F     stress′ = R stress Rᵀ
reflection    likewise with an improper R
translation   all atoms are moved alike                 E′ = E     F′ = F
wrap          single atoms move by lattice vectors      E′ = E     F′ = F       periodic frames only
supercell     the cell is doubled along one direction   E′ = 2 E   F′ = (F, F)  periodic frames only

The round-off of the model's own answers is measured, and what it may explain does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from mlipbench.benchmarks.answers import answered, failures, failures_view, round_off, with_failures
from mlipbench.benchmarks.comparison import bars, value_of
from mlipbench.benchmarks.operations import OPERATIONS, Moved, can_be_moved, covered_frames
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model, Predictions
from mlipbench.core.view import Axis, View
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM, MEV_PER_EV

WITH_STRESS: Final = ("rotation", "reflection")
# Turned neighbourhoods are other numbers to a network; moved, renamed and repeated ones are the same, up to round-off.
EXACT: Final = ("permutation", "translation", "wrap", "supercell")
UNITS: Final = {"energy": "meV/atom", "force": "meV/Å", "stress": "GPa"}
BAD: Final = {"energy": 0.1, "force": 1.0, "stress": 0.002}  # of turned frames; a tenth of it of the others
SIGMAS: Final = 6.0  # of round-off, that do not count: two answers differ, and the scatter of nine is not well known
# More is no round-off: eV per atom beside what single precision explains, eV/Å and eV/Å^3.
MOST: Final = {"energy": 1e-4, "force": 2e-4, "stress": 1e-3 / GPA_PER_EV_PER_CUBIC_ANGSTROM}
SINGLE: Final = float(np.finfo(np.float32).eps)
SCALE: Final = {"energy": MEV_PER_EV, "force": MEV_PER_EV, "stress": GPA_PER_EV_PER_CUBIC_ANGSTROM}


def _metric(operation: str, what: Literal["energy", "force", "stress"]) -> Metric:
    """Return the definition of one violation."""
    over = {
        "energy": "of the energy per atom over frames",
        "force": "of the force over all three components of all atoms",
        "stress": "of the stress over all nine components of the tensor",
    }[what]
    bad = BAD[what] * (0.1 if operation in EXACT else 1.0)
    return Metric(
        name=f"{operation}_{what}", title=f"{operation.capitalize()}: {what}", unit=UNITS[what], better="lower",
        good=1e-6 * bad, bad=bad, log_scale=True, role="check", severity="must",
        says=f"root of the mean squared change {over} under {operation}, beyond the change that physics demands and"
        f" {SIGMAS:g} standard deviations of the model's own round-off, frame by frame; interval over trajectories",
    )  # fmt: skip


CHECKS: Final = (
    *(_metric(operation, "energy") for operation in OPERATIONS),
    *(_metric(operation, "force") for operation in OPERATIONS),
    *(_metric(operation, "stress") for operation in WITH_STRESS),
)
METRICS: Final = (
    *CHECKS,
    *(
        Metric(
            name=f"round_off_{what}", title=f"Round-off: {what}", unit=UNITS[what], better="lower", role="diagnostic",
            good=1e-2 * BAD[what], bad=BAD[what], log_scale=True,
            says=f"standard deviation about a cubic along a short displacement of the {what}; root mean square over"
            " frames; interval over trajectories",
        )
        for what in UNITS
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Symmetry:
    """Apply each operation once to a few frames.

    Attributes:
        n_frames: half of them periodic where there are such frames.
        max_atoms: larger frames are used only where there are no others.
    """

    about: ClassVar[About] = About(
        name="symmetry",
        title="Symmetries",
        question="Does the model obey the symmetries that physics leaves no choice about?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="invariance of the energy, and equivariance of the rest: F(Rx) = R F(x), stress(Rx) = R stress(x) Rᵀ",
        grade="verification",
        seconds=10.0,
    )

    n_frames: int = 6
    max_atoms: int = 150

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for the frames and all their images; keep what changed.

        Raises:
            BadInput: no frames are asked for.
            NotApplicable: no frame has two atoms or more, or the model covers none.
            ModelFailure: the model is at fault, on every frame.
        """
        chosen = covered_frames(model, data, n_frames=self.n_frames, max_atoms=self.max_atoms)
        rng = context.rng()
        frames = [data.frames[i] for i in chosen]
        found = answered(
            model, [[atoms] for atoms in frames], context, remark="frames as they are", are_whole=True
        ).or_raise()
        original, seen = found.said, failures("frames", chosen, found)
        frames, chosen = [frames[k] for k in found.kept], chosen[found.kept]
        seen["frame"] = chosen
        for operation, apply in OPERATIONS.items():
            own = [k for k, atoms in enumerate(frames) if can_be_moved(operation, atoms)]
            if own:
                moved = [apply(frames[k], rng) for k in own]
                found = answered(model, [[one.atoms] for one in moved], context, remark=operation, are_whole=True)
                seen |= failures(operation, chosen[own], found)
                own, moved = [own[k] for k in found.kept], [moved[k] for k in found.kept]
                if own:
                    changed = _changes(original, own, moved, found.said) | {"own": np.array(own, dtype=np.int64)}
                    seen |= {f"{operation}_{name}": array for name, array in changed.items()}
        noise = round_off(model, frames, rng, context)
        return seen | {
            "round_off_energy": noise.energy / original.n_atoms, "round_off_force": noise.force,
            "round_off_stress": noise.stress, "has_stress": original.has_stress,
            # of a sum of as many numbers in single precision
            "single_energy": SINGLE * np.abs(original.energy) / np.sqrt(original.n_atoms),
        }  # fmt: skip

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return the root mean square of what round-off does not explain of each change."""
        units = np.array(data.trajectory)[seen["frame"]]
        found = []
        for metric in CHECKS:
            operation, what = metric.name.split("_")
            if not len(seen.get(metric.name, ())):
                continue
            own = seen[f"{operation}_own"][seen[f"{metric.name}_item"]]
            of_frame, row = np.unique(own, return_inverse=True)
            change = seen[metric.name].reshape(len(own), -1)
            n = np.bincount(row) * change.shape[1]
            square = (
                np.bincount(row, (change**2).sum(axis=1)) - n * self._explained(seen, operation, what)[of_frame] ** 2
            )
            rows = np.column_stack([np.maximum(square, 0.0) * SCALE[what] ** 2, n])
            value = value_of(metric, rows, units[of_frame], "root_mean")
            found.append(with_failures(value, operation, seen, data))
        for what, scale in SCALE.items():
            own = seen["has_stress"] if what == "stress" else np.ones(len(units), dtype=bool)
            if own.any():
                scatter = (scale * seen[f"round_off_{what}"][own]) ** 2
                rows = np.column_stack([scatter, np.ones(len(scatter))])
                found.append(value_of(DEFINED[f"round_off_{what}"], rows, units[own], "root_mean"))
        return tuple(found)

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return all changes that these frames allow, also those of the stress, which a model may refuse."""
        moved = [atoms for atoms in data.frames if len(atoms) > 1]
        operations = [name for name in OPERATIONS if any(can_be_moved(name, atoms) for atoms in moved)]
        whole = any(atoms.pbc.all() for atoms in moved)
        return (
            *(f"{name}_{what}" for what in ("energy", "force") for name in operations),
            *(f"{name}_stress" for name in WITH_STRESS if whole),
        )

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the force changes beside each other, and what was not answered."""
        named = {value.metric: value for value in self.score(seen, data)}
        forces = [named[f"{operation}_force"] for operation in OPERATIONS if f"{operation}_force" in named]
        shown = (
            (bars("Broken symmetry: forces", Axis(quantity="force change", unit="meV/Å"), forces),) if forces else ()
        )
        return (*shown, *failures_view(seen, data, n_used=len(seen["frame"])))

    @staticmethod
    def _explained(seen: Observation, operation: str, what: str) -> Float:
        """Return what round-off may explain, in eV per atom, eV/Å or eV/Å^3; shape (n_frames,).

        A doubled cell has twice the energy to be rounded, in a sum of twice as many terms.
        """
        most = MOST[what] + (seen["single_energy"] if what == "energy" else 0.0)
        sigmas = SIGMAS * (2.0 if operation == "supercell" else 1.0)
        return np.asarray(sigmas * np.minimum(seen[f"round_off_{what}"], most))


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
