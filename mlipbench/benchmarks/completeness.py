"""Which surroundings that differ look the same to the model?

The pairs of `physics.environments` differ, and no descriptor of two, three and four bodies tells them apart. All
neighbours and the atom in the middle are of one element, each element of the data set in turn, and only the atom in the
middle is compared: what the model says of the neighbours may differ without that being known at the centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import value_of
from mlipbench.benchmarks.operations import random_rotation
from mlipbench.benchmarks.sites import ABOVE_NOISE, centre_values, covered_elements, decades, weights_of
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import magnitudes
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import View
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.environments import DIFFERENT, SAME, scaled

if TYPE_CHECKING:
    from ase import Atoms

_OF: Final = "difference of the centre's features, each in units of its own size, relative to their norm"
_PAIRS: Final = {
    "two_body": "a pair of two neighbours that needs three bodies to tell apart",
    "three_body": "a pair of four neighbours that needs four bodies to tell apart",
    "four_body": "a pair of seven neighbours that needs five bodies to tell apart",
}
TOLD_APART: Final = Metric(
    name="pairs_told_apart", title="Pairs told apart", unit="", better="higher", good=3.0, bad=0.0, headline=True,
    says="how many of the three degenerate pairs differ by more than the threshold, and by more than ten times"
    " round-off and the largest difference of equal surroundings, mean over elements; interval over elements",
)  # fmt: skip
DISTANCES: Final = tuple(
    Metric(
        name=f"{name}_distance", title=f"{name.capitalize().replace('_', '-')} pair: difference", unit="",
        better="higher", good=1e-3, bad=1e-6, log_scale=True, role="diagnostic",
        says=f"{_OF}, for {pair}, mean over elements; interval over elements",
    )
    for name, pair in _PAIRS.items()
)  # fmt: skip
CONTROLS: Final = Metric(
    name="control_difference", title="Equal surroundings: difference", unit="", better="lower", good=1e-9, bad=1e-6,
    log_scale=True, role="check", severity="good to know",
    says=f"{_OF}, largest of two rotated pairs and a mirrored one, mean over elements; interval over elements",
)  # fmt: skip
DISPLACED: Final = Metric(
    name="displacement_change", title="Displaced neighbours: difference", unit="", better="higher", good=1e-4, bad=1e-6,
    log_scale=True, role="diagnostic",
    says=f"{_OF}, between an arrangement and itself with its neighbours displaced at random, smallest of three, mean"
    " over elements; interval over elements",
)  # fmt: skip
METRICS: Final = (TOLD_APART, *DISTANCES, CONTROLS, DISPLACED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Ask about both of each pair, turned at random, and about the same with its neighbours displaced a little.

    Attributes:
        radius_A: distance of the farthest neighbour; must be within the model's cutoff.
        threshold: relative difference from which two surroundings are told apart. Round-off is 1e-12 in double and 1e-7
            in single precision, and a difference that small could not be learnt from.
        displacement_A: standard deviation along each axis.
    """

    about: ClassVar[About] = About(
        name="completeness",
        title="Degenerate surroundings",
        question="Which surroundings that differ look the same to the model?",
        metrics=METRICS,
        observe_version=1,
        score_version=2,
        source="S. N. Pozdnyakov et al., Phys. Rev. Lett. 125, 166001 (2020), with corrected coordinates",
        seconds=2.0,
    )

    radius_A: float = 3.5
    threshold: float = 1e-6
    displacement_A: float = 1e-3

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask about all arrangements, element by element.

        Raises:
            BadInput: a parameter is not positive.
            NotApplicable: the model has neither features nor site energies, covers no element, or sees no neighbour.
            ModelFailure: the model is at fault.
        """
        for name in ("radius_A", "threshold", "displacement_A"):
            if not getattr(self, name) > 0.0:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be positive")
        rng = context.rng()
        elements = covered_elements(model, data)
        frames = [frame for number in elements.tolist() for frame in self._arrangements(number, rng)]
        said = centre_values(model, frames, context, remark="degenerate surroundings")
        found = [
            (number, _compare(weights * values, weights * said.round_off))
            for number, values in zip(elements.tolist(), np.split(said.values, len(elements)), strict=True)
            if (weights := weights_of(values, said.round_off)).any()
        ]
        if not found:
            raise NotApplicable(
                f"model {model.spec.name} sees no neighbour at distances up to {self.radius_A} Å; set radius_A below"
                " its cutoff"
            )
        seen = {name: np.array([one[name] for _, one in found]) for name in found[0][1]}
        return {"element": np.array([number for number, _ in found]), **seen}

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Count the pairs told apart, and say by how much."""
        from ase.data import chemical_symbols

        units = np.array([chemical_symbols[number] for number in seen["element"]])
        control = seen["same"].max(axis=1)
        resolved = np.maximum(self.threshold, ABOVE_NOISE * np.maximum(control[:, None], seen["round_off"]))
        found: dict[str, Float] = {TOLD_APART.name: (seen["different"] > resolved).sum(axis=1).astype(float)}
        found |= {metric.name: seen["different"][:, k] for k, metric in enumerate(DISTANCES)}
        found |= {CONTROLS.name: control, DISPLACED.name: seen["displaced"].min(axis=1)}
        return tuple(value_of(metric, magnitudes(found[metric.name]), units, "mean") for metric in METRICS)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show all differences beside each other."""
        values = [value for value in self.score(seen, data) if value.metric != TOLD_APART.name]
        return (decades("Degenerate surroundings", values),)

    def _arrangements(self, number: int, rng: np.random.Generator) -> list[Atoms]:
        """Return all pairs, then each different arrangement with its neighbours displaced."""
        twins = [scaled(one, radius=self.radius_A) for one in (*DIFFERENT, *SAME)]
        both = [points for one in twins for points in (one.first, one.second)]
        displaced = [
            points + rng.normal(scale=self.displacement_A, size=points.shape)
            for points in (one.first for one in twins[: len(DIFFERENT)])
        ]
        return [_turned(number, points, rng) for points in (*both, *displaced)]


def _turned(number: int, neighbours: Float, rng: np.random.Generator) -> Atoms:
    """Return an atom with its neighbours, in random order and orientation."""
    from ase import Atoms

    shuffled = rng.permutation(neighbours) @ random_rotation(rng).T
    return Atoms([number] * (1 + len(neighbours)), np.vstack([np.zeros(3), shuffled]))


def _compare(values: Float, round_off: Float) -> dict[str, Float]:
    """Return relative differences: within pairs that differ and that do not, and of the displaced from the first.

    Args:
        values: of all arrangements of one element, weighted, shape (n_arrangements, n_features).
        round_off: of these, shape (n_features,).
    """
    n_pairs, n_different = len(DIFFERENT) + len(SAME), len(DIFFERENT)
    first, second = (values[k : 2 * n_pairs : 2] for k in (0, 1))
    displaced = values[2 * n_pairs :]
    norm = np.sqrt(((first**2).sum(axis=1) + (second**2).sum(axis=1)) / 2.0)
    per_norm = np.divide(1.0, norm, out=np.zeros(n_pairs), where=norm > 0.0)
    within = np.linalg.norm(first - second, axis=1) * per_norm
    return {
        "different": within[:n_different],
        "same": within[n_different:],
        "displaced": np.linalg.norm(displaced - first[:n_different], axis=1) * per_norm[:n_different],
        "round_off": np.linalg.norm(round_off) * per_norm[:n_different],
    }
