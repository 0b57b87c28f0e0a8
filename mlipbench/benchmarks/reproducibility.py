"""Does the answer depend on things that it must not depend on, in company, order and precision?

batch      each frame asked alone, and all frames at once
order      all frames at once, and once more in the reverse order: a random answer shows here too
precision  the same network in single and in double precision, where the model can be had in both
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.answers import answered, failures, failures_view, with_failures
from mlipbench.benchmarks.comparison import bars, value_of
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.frames import together as joined
from mlipbench.benchmarks.operations import covered_frames
from mlipbench.benchmarks.systems import as_numbers
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model, OtherPrecision, Predictions
from mlipbench.core.view import Axis, View
from mlipbench.errors import ModelFailure, NotApplicable
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

CASES: Final = {
    "batch": "each frame alone against all at once",
    "order": "all frames at once against the same in the reverse order",
    "precision": "single against double precision",
}


def _metrics(case: str, says: str) -> tuple[Metric, Metric]:
    """Return the definitions of the change of energy and forces."""
    worse = 10.0 if case == "precision" else 1.0  # sums of thousands of terms in single precision
    return (
        Metric(
            name=f"{case}_energy", title=f"{case.capitalize()}: energy", unit="meV/atom", better="lower",
            good=1e-5 * worse, bad=0.1 * worse, log_scale=True,
            role="check", severity="must",
            says=f"root mean square over frames of the change of the energy per atom, {says}; interval over"
            " trajectories",
        ),
        Metric(
            name=f"{case}_force", title=f"{case.capitalize()}: force", unit="meV/Å", better="lower",
            good=1e-3 * worse, bad=1.0 * worse, log_scale=True,
            role="check", severity="must",
            says=f"root mean square over all components of all atoms of the change of the force, {says}; interval over"
            " trajectories",
        ),
    )  # fmt: skip


METRICS: Final = tuple(metric for case, says in CASES.items() for metric in _metrics(case, says))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproducibility:
    """Ask for a few frames alone, together, in another order and in another precision.

    Attributes:
        n_frames: half of them periodic where there are such frames.
        max_atoms: larger frames are used only where there are no others.
    """

    about: ClassVar[About] = About(
        name="reproducibility",
        title="Reproducibility",
        question="Does the answer depend on company, order or precision, on which it must not depend?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="an energy is a function of one structure",
        grade="verification",
        seconds=2.0,
    )

    n_frames: int = 8
    max_atoms: int = 90

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask, and keep what changed.

        Raises:
            BadInput: no frames are asked for.
            NotApplicable: no frame is small enough, or the model does not cover them.
            ModelFailure: the model is at fault.
        """
        chosen = covered_frames(model, data, n_frames=self.n_frames, max_atoms=self.max_atoms)
        found = answered(
            model, [[data.frames[i]] for i in chosen], context, remark="all at once", are_whole=True
        ).or_raise()
        seen: dict[str, Float | Int] = dict(failures("frames", chosen, found))
        chosen, together = chosen[found.kept], found.said
        frames = [data.frames[i] for i in chosen]
        if len(chosen) == 1:  # alone, together and reversed would be one question, and memory would answer
            chosen = np.repeat(chosen, 2)
            frames.append(frames[0].copy())
            frames[1].positions += 1.0
        if len(frames) > len(found.kept) or len(found.failed) or found.refusal:  # these were not asked together yet
            together = predict(model, frames, context, remark="all at once")
        seen["frame"] = chosen
        seen |= _alone(model, frames, chosen, together, context)
        # another call than the first, so that an answer that is remembered somewhere does not hide a random one
        back = predict(model, frames[::-1], context, remark="in the reverse order")
        seen |= _changes("order", together, _one_by_one(back)[::-1])
        if isinstance(model, OtherPrecision):
            seen |= _changes("precision", *_precisions(model, frames, context))
        return seen

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return the root mean square of each change."""
        trajectory = np.array(data.trajectory)
        found = []
        for metric in METRICS:
            if len(seen.get(metric.name, ())):
                case, what = metric.name.split("_")
                frames = seen["batch_frame"] if case == "batch" else seen["frame"]
                units = np.repeat(trajectory[frames], data.n_atoms[frames]) if what == "force" else trajectory[frames]
                value = value_of(metric, squares(MEV_PER_EV * seen[metric.name]), units, "root_mean")
                found.append(with_failures(value, "frames" if case != "batch" else "batch", seen, data))
        return tuple(found)

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return what every model has on frames of two atoms or more."""
        some = any(len(atoms) > 1 for atoms in data.frames)
        return tuple(f"{case}_{what}" for case in ("batch", "order") for what in ("energy", "force")) if some else ()

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the force changes beside each other, and what was not answered."""
        forces = [value for value in self.score(seen, data) if value.metric.endswith("_force")]
        axis = Axis(quantity="force change", unit="meV/Å")
        shown = (bars("What should not matter: forces", axis, forces),) if forces else ()
        return (*shown, *failures_view(seen, data, n_used=len(seen["frame"])))


def _alone(
    model: Model, frames: Sequence[Atoms], chosen: Int, together: Predictions, context: Context
) -> dict[str, Float | Int]:
    """Ask for each frame alone; one that is answered in company only has failed."""
    split = _one_by_one(together)
    ones: list[Predictions] = []
    others: list[Predictions] = []
    kept: list[int] = []
    failed: dict[int, str] = {}
    for k, atoms in enumerate(frames):
        try:
            others.append(predict(model, [atoms], context, remark="one by one"))
        except (ModelFailure, NotApplicable) as error:
            failed[k] = str(error)
            continue
        ones.append(split[k])
        kept.append(k)
    changes = _changes("batch", joined(ones), others) if ones else {}
    lost = {
        "batch_failed": chosen[np.array(list(failed), dtype=np.int64)],
        "batch_reason": np.asarray(as_numbers(list(failed.values())), dtype=np.int64),
    }
    return changes | lost | {"batch_frame": chosen[np.array(kept, dtype=np.int64)]}


def _precisions(
    model: OtherPrecision, frames: Sequence[Atoms], context: Context
) -> tuple[Predictions, list[Predictions]]:
    """Return the answers in single precision, and those in double, frame by frame."""
    single, double = (
        predict(model.in_precision(dtype), frames, context, remark=dtype) for dtype in ("float32", "float64")
    )
    return single, _one_by_one(double)


def _one_by_one(said: Predictions) -> list[Predictions]:
    """Return the answers of each frame by itself."""
    forces = np.split(said.forces, said.offsets[1:-1])
    return [
        Predictions(
            n_atoms=said.n_atoms[k : k + 1], energy=said.energy[k : k + 1], forces=forces[k],
            stress=said.stress[k : k + 1], has_stress=said.has_stress[k : k + 1],
        )
        for k in range(len(said.n_atoms))
    ]  # fmt: skip


def _changes(case: str, one: Predictions, other: Sequence[Predictions]) -> dict[str, Float]:
    """Return changes of the energy in eV per atom and of the forces in eV/Å."""
    energy = np.array([part.energy[0] for part in other])
    forces = np.concatenate([part.forces for part in other])
    return {f"{case}_energy": (energy - one.energy) / one.n_atoms, f"{case}_force": forces - one.forces}
