"""Do the numbers that describe an atom obey the symmetries of its surroundings?

Every operation of `benchmarks.operations` is applied to a frame, the model is asked again, and each atom is compared
with its image. Features are invariant, so none of them may change, under reflections either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import value_of
from mlipbench.benchmarks.operations import OPERATIONS, PERIODIC_ONLY, frames_to_move
from mlipbench.benchmarks.sites import ABOVE_NOISE, decades, site_values
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model
from mlipbench.core.view import View
from mlipbench.errors import NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

METRICS: Final = tuple(
    Metric(
        name=f"{operation}_change", title=f"{operation.capitalize()}: change", unit="", better="lower",
        good=1e-10, bad=1e-4, log_scale=True, role="check", severity="must",
        says=f"root of the mean squared change of the feature vector over atoms under {operation}, divided by the root"
        " mean squared norm in that frame; interval over trajectories",
    )
    for operation in OPERATIONS
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSymmetry:
    """Apply each operation once to a few frames, and compare atom by atom.

    Attributes:
        n_frames: half of them periodic where there are such frames.
        max_atoms: larger frames are not used.
    """

    about: ClassVar[About] = About(
        name="feature_symmetry",
        title="Symmetries of features",
        question="Do the numbers that describe an atom obey the symmetries of its surroundings?",
        metrics=METRICS,
        observe_version=1,
        score_version=2,
        source="invariance under permutations of like atoms, translations, rotations and reflections:"
        " A. P. Bartók, R. Kondor & G. Csányi, Phys. Rev. B 87, 184115 (2013)",
        grade="verification",
        seconds=5.0,
    )

    n_frames: int = 6
    max_atoms: int = 150

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for the frames and all their images; keep each atom's change.

        Raises:
            BadInput: no frames are asked for.
            NotApplicable: the model has neither features nor site energies, or no frame shows it any surroundings.
            ModelFailure: the model is at fault.
        """
        chosen = frames_to_move(data, n_frames=self.n_frames, max_atoms=self.max_atoms)
        rng = context.rng()
        frames = [data.frames[i] for i in chosen]
        before, round_off = _ask(model, frames, context, "frames as they are")
        norms = np.array([np.sqrt((values**2).sum(axis=1).mean()) for values in before])
        shows = norms > ABOVE_NOISE * round_off
        if not shows.any():
            raise NotApplicable(
                f"model {model.spec.name} says of every atom what it says of the atom alone; set max_atoms higher, so"
                " that there are frames with atoms within its reach"
            )
        seen: dict[str, Float | Int] = {}
        for operation, apply in OPERATIONS.items():
            single = operation not in PERIODIC_ONLY
            own = [k for k, atoms in enumerate(frames) if shows[k] and (single or atoms.pbc.any())]
            if own:
                moved = [apply(frames[k], rng) for k in own]
                after, _ = _ask(model, [image.atoms for image in moved], context, operation)
                changes = [
                    np.linalg.norm(said - before[k][image.row], axis=1) / norms[k]
                    for k, image, said in zip(own, moved, after, strict=True)
                ]
                seen[f"{operation}_change"] = np.concatenate(changes)
                seen[f"{operation}_frame"] = np.repeat(chosen[own], [len(change) for change in changes])
        return seen

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return the root mean square of each change."""
        trajectory = np.array(data.trajectory)
        return tuple(
            value_of(
                metric,
                squares(seen[metric.name]),
                trajectory[seen[metric.name.replace("_change", "_frame")]],
                "root_mean",
            )
            for metric in METRICS
            if metric.name in seen
        )

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the changes beside each other."""
        return (decades("Broken symmetry: features", self.score(seen, data)),)


def _ask(model: Model, frames: Sequence[Atoms], context: Context, remark: str) -> tuple[list[Float], float]:
    """Return what the model says of each atom, frame by frame, and the norm of its round-off."""
    ends = np.cumsum([len(atoms) for atoms in frames])
    said = site_values(model, frames, context, remark=remark)
    return np.split(said.values, ends[:-1]), float(np.linalg.norm(said.round_off))
