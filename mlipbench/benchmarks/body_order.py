"""How many atoms at once does the model's view of an atom depend on?

Neighbours are put around an atom, and the model is asked about that atom with each subset S of them. The mixed
difference

    Δ_N = Σ_{S ⊆ {1..N}} (-1)^(N - |S|) f(S)

is what no sum of functions of fewer than N neighbours can give. It is zero, up to round-off, from the model's body
order on: with ν neighbours at most in one term, Δ_ν is there, Δ_{ν+1} is not, and the body order is ν + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import value_of
from mlipbench.benchmarks.operations import random_rotation
from mlipbench.benchmarks.sites import ABOVE_NOISE, SHOWN_FROM, centre_values, covered_elements, weights_of
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import magnitudes, squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

MOST_NEIGHBOURS: Final = 10
N_TURNED: Final = 8
MOST_TRIES: Final = 10_000

BODY_ORDER: Final = Metric(
    name="body_order", title="Body order", unit="", better="higher", good=5.0, bad=2.0, headline=True,
    says="one more than the largest number of neighbours whose mixed difference is above tolerance and resolution,"
    " median over random arrangements; one more than all neighbours means at least that; interval over arrangements",
)  # fmt: skip
DIFFERENCE: Final = Metric(
    name="mixed_difference", title="Mixed difference", unit="", better="higher", good=1.0, bad=1e-8, log_scale=True,
    role="diagnostic",
    says="root of the mean squared mixed difference over all sets of so many neighbours and over random arrangements,"
    " relative to the features, each in units of its own size; interval over arrangements",
)  # fmt: skip
RESOLUTION: Final = Metric(
    name="resolution", title="Resolution", unit="", better="lower", good=1e-8, bad=1e-3, log_scale=True,
    role="diagnostic",
    says="smallest mixed difference of all neighbours that stands out of round-off, seen in the numbers and"
    " when the same arrangement is turned and reordered, mean over arrangements; interval over arrangements",
)  # fmt: skip
METRICS: Final = (BODY_ORDER, DIFFERENCE, RESOLUTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyOrder:
    """Ask about random arrangements with each subset of the neighbours.

    Attributes:
        max_neighbours: 2^max_neighbours frames are asked for per arrangement.
        n_draws: random arrangements.
        nearest_A: smallest distance of a neighbour from the centre.
        farthest_A: largest; must be within the model's cutoff.
        apart_A: smallest distance between neighbours.
        tolerance: relative mixed difference below which there is none.
    """

    about: ClassVar[About] = About(
        name="body_order",
        title="Body order",
        question="How many atoms at once does the model's view of an atom depend on?",
        metrics=METRICS,
        observe_version=1,
        score_version=2,
        source="inclusion and exclusion; the body-order expansion of R. Drautz, Phys. Rev. B 99, 014104 (2019)",
        seconds=5.0,
    )

    max_neighbours: int = 6
    n_draws: int = 9
    nearest_A: float = 1.2
    farthest_A: float = 3.0
    apart_A: float = 0.8
    tolerance: float = 1e-8

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask about each arrangement with each subset of its neighbours.

        Raises:
            BadInput: a parameter makes no sense, or neighbours cannot be placed so far apart.
            NotApplicable: the model has neither features nor site energies, covers no element, or sees no neighbour.
            ModelFailure: the model is at fault.
        """
        self._check()
        rng = context.rng()
        elements = covered_elements(model, data)
        differences, noises = [], []
        for k in range(self.n_draws):
            frames, again = _with_subsets(self._arrangement(elements, rng), rng)
            said = centre_values(model, frames, context, remark=f"arrangement {k + 1} of {self.n_draws}")
            weights = weights_of(said.values[: -len(again)], said.round_off)
            if weights.any():
                difference, noise = _differences_and_noise(weights * said.values, weights * said.round_off, again)
                differences.append(difference)
                noises.append(noise)
        if not differences:
            raise NotApplicable(
                f"model {model.spec.name} sees no neighbour between {self.nearest_A} and {self.farthest_A} Å; set"
                " farthest_A below its cutoff"
            )
        return {"difference": np.array(differences), "noise": np.array(noises)}

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Find the last mixed difference that stands out, arrangement by arrangement."""
        difference = seen["difference"]
        n_draws, n_neighbours = difference.shape
        sizes = np.arange(1, n_neighbours + 1)
        resolution = ABOVE_NOISE * np.sqrt(2.0**sizes) * seen["noise"][:, None]
        stands_out = difference > np.maximum(self.tolerance, resolution)
        order = 1.0 + np.where(stands_out, sizes, 0).max(axis=1)
        units = np.array([f"arrangement {k + 1}" for k in range(n_draws)])
        return (
            value_of(BODY_ORDER, order[:, None], units, "median"),
            *(
                value_of(DIFFERENCE, squares(difference[:, n - 1]), units, "root_mean", part=f"neighbours={n}")
                for n in sizes
            ),
            value_of(RESOLUTION, magnitudes(resolution[:, -1]), units, "mean"),
        )

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show how the mixed difference falls with the number of neighbours."""
        found = [value.value for value in self.score(seen, data) if value.metric == DIFFERENCE.name]
        return (
            Lines(
                title="Mixed differences",
                x_axis=Axis(quantity="neighbours"),
                y_axis=Axis(quantity="relative difference", log=True),
                names=("mixed difference",),
                x=np.arange(1.0, len(found) + 1.0),
                y=np.maximum([found], SHOWN_FROM),
            ),
        )

    def _check(self) -> None:
        """Refuse parameters without meaning."""
        checks = (
            (
                "max_neighbours",
                1 <= self.max_neighbours <= MOST_NEIGHBOURS,
                f"a whole number from 1 to {MOST_NEIGHBOURS}",
            ),
            ("n_draws", self.n_draws >= 1, "1 or more"),
            ("nearest_A", 0.0 < self.nearest_A < self.farthest_A < np.inf, "positive and below farthest_A"),
            ("apart_A", self.apart_A >= 0.0, "0 or more"),
            ("tolerance", self.tolerance > 0.0, "positive"),
        )
        for name, good, allowed in checks:
            if not good:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be {allowed}")

    def _arrangement(self, elements: Int, rng: np.random.Generator) -> Atoms:
        """Return an atom at the origin and neighbours around it, of random elements."""
        from ase import Atoms

        places = np.zeros((1, 3))
        for _ in range(MOST_TRIES):
            if len(places) > self.max_neighbours:
                return Atoms(rng.choice(elements, size=len(places)), places)
            direction = rng.normal(size=3)
            place = rng.uniform(self.nearest_A, self.farthest_A) * direction / np.linalg.norm(direction)
            if len(places) == 1 or np.linalg.norm(places[1:] - place, axis=1).min() >= self.apart_A:
                places = np.vstack([places, place])
        raise BadInput(
            f"{self.max_neighbours} neighbours between {self.nearest_A} and {self.farthest_A} Å do not fit"
            f" {self.apart_A} Å apart; set apart_A or max_neighbours lower"
        )


def mixed_differences(values: Float) -> Float:
    """Return Σ_{S ⊆ T} (-1)^(|T| - |S|) f(S) of every set T.

    Args:
        values: shape (2^n, k), f of each subset of n things; thing i is in subset number s when bit i of s is set.

    Returns:
        The same shape and order of sets.

    Source: the Möbius inversion over subsets; G.-C. Rota, Z. Wahrscheinlichkeitstheorie 2, 340 (1964).

    The square of the number of things has a term for each thing and one for each pair, 2, and nothing more:

    >>> mixed_differences(np.array([[0.0], [1.0], [1.0], [4.0], [1.0], [4.0], [4.0], [9.0]])).ravel().tolist()
    [0.0, 1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 0.0]
    """
    found = np.array(values, dtype=np.float64)
    subsets = np.arange(len(found))
    bit = 1
    while bit < len(found):
        has = subsets[subsets & bit > 0]
        found[has] -= found[has - bit]
        bit *= 2
    return found


def _with_subsets(full: Atoms, rng: np.random.Generator) -> tuple[list[Atoms], Int]:
    """Return the atom with each subset of its neighbours but none, and some of these again, turned and reordered.

    The second array has the subset's number of each of the latter.
    """
    n_neighbours = len(full) - 1
    everything = 2**n_neighbours - 1
    bits = 1 << np.arange(n_neighbours)
    rows = [np.flatnonzero(subset & bits) + 1 for subset in range(everything + 1)]
    again = np.append(rng.integers(1, everything + 1, size=N_TURNED - 1), everything)
    frames = [full[[0, *own]] for own in rows[1:]]
    for subset in again:
        atoms = full[[0, *rng.permutation(rows[subset])]]
        atoms.set_positions(atoms.positions @ random_rotation(rng).T)
        frames.append(atoms)
    return frames, again.astype(np.int64)


def _differences_and_noise(said: Float, round_off: Float, again: Int) -> tuple[Float, float]:
    """Return the root mean squared mixed difference for each number of neighbours, and the noise of one value.

    Both are relative to the root mean squared norm over all subsets but the empty one.

    Args:
        said: what the model says of the frames of `_with_subsets`, weighted, shape (n_frames, n_features).
        round_off: of these, shape (n_features,).
        again: numbers of the subsets that were asked for twice.
    """
    n = len(said) - len(again)
    values = np.vstack([np.zeros(said.shape[1]), said[:n]])
    norm = np.sqrt((values[1:] ** 2).sum(axis=1).mean())
    repeated = ((said[n:] - values[again]) ** 2).sum(axis=1).mean()
    squared = (mixed_differences(values) ** 2).sum(axis=1)
    sizes = np.array([subset.bit_count() for subset in range(n + 1)])
    difference = np.array([np.sqrt(squared[sizes == size].mean()) for size in range(1, sizes[-1] + 1)])
    return difference / norm, float(np.sqrt(repeated + (round_off**2).sum()) / norm)
