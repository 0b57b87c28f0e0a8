"""Is the curve of two atoms sound, from deep inside the wall to beyond the cutoff?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from mlipbench.benchmarks.asking import predict_inward
from mlipbench.benchmarks.comparison import Names, share_of, value_of
from mlipbench.benchmarks.frames import spread_out
from mlipbench.benchmarks.systems import as_numbers, as_texts, left_out_view
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue, Severity
from mlipbench.core.model import Float, Int, Model
from mlipbench.core.view import Axis, Bars, Lines, View
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.physics.cells import minimum_image
from mlipbench.physics.curves import energy_jump, minima, rank_correlation, sign_changes, tortuosity, work_mismatch

if TYPE_CHECKING:
    from ase import Atoms

LEAST_STEP_EV: Final = 1e-3  # smaller steps of the energy are none
LEAST_WORK_EV: Final = 0.05  # smaller energy steps are not compared with the work of the force
LEAST_PULL_EV_PER_A: Final = 1e-2
PROMINENCE_EV: Final = 0.1
LEAST_WALL_EV: Final = 1.0
SHOWN_TO_EV: Final = 5.0
WIDEST_STEP_A: Final = 0.06
NEXT: Final = 1.25  # times the distance of the nearest neighbour
N_LOOKED_AT: Final = 30  # frames that are looked at for neighbours
MOST_ATOMS: Final = 1000
UNKNOWN_RADIUS_A: Final = 0.2  # what ASE has where nothing is known, and for element 0
OVER: Final = "over pairs of elements; interval over pairs"


def _share(name: str, title: str, says: str, severity: Severity = "good to know") -> Metric:
    """Return the definition of a share of pairs that must be none."""
    return Metric(
        name=name, title=title, unit="", better="lower", good=0.0, bad=1e-3, role="check", severity=severity,
        lowest=0.0, highest=1.0, says=f"share of pairs {says}",
    )  # fmt: skip


def _shape(
    name: str, title: str, unit: str, better: Literal["lower", "higher"], good: float, bad: float, says: str
) -> Metric:
    """Return the definition of a number of the shape of curves, which tells of where nobody taught the model."""
    return Metric(
        name=name, title=title, unit=unit, better=better, good=good, bad=bad, role="check", severity="good to know",
        says=f"{says}; mean {OVER}",
    )  # fmt: skip


REACH: Final = 1.2  # times a curve's nearest distance (0.6 sums of radii): no minimum lies farther in, and Cr2's there
_WALL: Final = "whose energy nowhere inside its minimum is 1 eV above it, or without an answer at the nearest distance"
METRICS: Final = (
    Metric(
        name="work_mismatch", title="Force against energy", unit="", better="lower", good=1e-5, bad=3e-3,
        log_scale=True, headline=True, role="check", severity="must",
        says="difference between energy steps and the work of the force (Simpson's rule over two steps), relative to"
        f" the larger of the two, mean over steps of 50 meV or more and {OVER}",
    ),
    _share("collapsed", "Collapsed walls", f"of elements that are neighbours in the data {_WALL}", "fatal"),
    _share("collapsed_elsewhere", "Collapsed walls, other pairs", f"of elements that are no neighbours there {_WALL}"),
    _share("spurious_minima", "Spurious minima", "with more than one minimum of a prominence of 0.1 eV"),
    _share("force_flips", "Force flips", "whose force changes its sign more than once where it is above 10 meV/Å"),
    _shape(
        "tortuosity", "Tortuosity", "", "lower", 1.0, 1.1,
        "how much the energy goes up and down over how much it has to",
    ),
    _shape(
        "energy_jump", "Energy jump", "eV", "lower", 0.2, 1.0,
        "sum of the energy steps to either side of each place where the energy turns round",
    ),
    _shape(
        "repulsion_rank", "Repulsion, rank correlation", "", "lower", -1.0, -0.95,
        "Spearman's correlation of energy and distance inside the minimum, -1 for a wall that only rises",
    ),
    _shape(
        "attraction_rank", "Attraction, rank correlation", "", "higher", 1.0, 0.8,
        "Spearman's correlation of energy and distance beyond the minimum, as long as the energy is 1 meV from its last"
        " value",
    ),
    _share("not_computed", "Not computed", "that the model failed on, all or near the nearest distance"),
)  # fmt: skip
SHARES: Final = ("collapsed", "collapsed_elsewhere", "spurious_minima", "force_flips")
LEAST_POINTS: Final = 11  # of a curve that the model answers in part


@dataclass(frozen=True, slots=True, kw_only=True)
class Diatomics:
    """Pull two atoms apart, for each pair of elements that the model covers.

    Attributes:
        elements: chemical symbols; None for those of the data.
        max_pairs: of all pairs so many are taken, evenly spaced.
        nearest: shortest distance, in sums of covalent radii.
        farthest_A: longest distance.
        n_points: of a curve; odd.
    """

    about: ClassVar[About] = About(
        name="diatomics",
        title="Diatomics",
        question="Is the curve of two atoms sound, from deep inside the wall to beyond the cutoff?",
        metrics=METRICS,
        observe_version=2,
        score_version=3,
        source="MLIP Arena, homonuclear diatomics (tortuosity, force flips, energy jump, rank correlations), here for"
        " all pairs; work of the force by Simpson's rule",
        grade="verification",
        seconds=2.0,
    )

    elements: tuple[str, ...] | None = None
    max_pairs: int = 21
    nearest: float = 0.5
    farthest_A: float = 6.0
    n_points: int = 181

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask along each curve that the model covers, as far in as it answers.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: the model covers no pair.
            ModelFailure: the model fails on all it covers.
        """
        numbers = self._numbers(data)
        near = neighbours(data)
        kept: list[tuple[tuple[int, int], int, Float, Float, Float]] = []
        refusals: list[tuple[tuple[int, int], NotApplicable]] = []
        failures: list[tuple[tuple[int, int], ModelFailure]] = []
        for pair in _spaced(list(combinations_with_replacement(numbers, 2)), self.max_pairs):
            places = self._places(pair)
            try:
                first, said, failure = predict_inward(model, dimers(pair, places), context, remark="two atoms")
            except NotApplicable as refusal:
                refusals.append((pair, refusal))
                continue
            if failure is not None:
                failures.append((pair, failure))
            if said is None or len(places) - first < LEAST_POINTS:
                continue
            # Only finite numbers can be kept: what has no answer is what the innermost answer is, and is not looked at.
            energy = np.concatenate([np.full(first, said.energy[0]), said.energy])
            pull = np.concatenate([np.zeros(first), said.forces.reshape(-1, 2, 3)[:, 1, 0]])
            kept.append((pair, first, places, energy, pull))
        if not kept:
            raise failures[0][1] if failures else refusals[0][1]
        return {
            "pair": np.array([one[0] for one in kept], dtype=np.int64),
            "first": np.array([one[1] for one in kept], dtype=np.int64),
            "distance": np.array([one[2] for one in kept]), "energy": np.array([one[3] for one in kept]),
            "pull": np.array([one[4] for one in kept]),
            "neighbours": np.array(sorted(near), dtype=np.int64).reshape(-1, 2),
            "refused_pair": np.array([pair for pair, _ in refusals], dtype=np.int64).reshape(-1, 2),
            "refused_reason": as_numbers([str(refusal) for _, refusal in refusals]),
            "failed_pair": np.array([pair for pair, _ in failures], dtype=np.int64).reshape(-1, 2),
            "failed_reason": as_numbers([str(failure) for _, failure in failures]),
        }  # fmt: skip

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return what is unsound, over all pairs."""
        names, failed = _labels(seen["pair"]), _labels(seen["failed_pair"])
        near = set(_labels(seen["neighbours"]))
        lost = [name for name in failed if name not in names]
        rows: dict[str, list[tuple[float, str]]] = {}
        for name, *one in zip(names, seen["distance"], seen["energy"], seen["pull"], seen["first"], strict=True):
            for judged, value in _judged(*one).items():
                wall = "collapsed" if name in near else "collapsed_elsewhere"
                rows.setdefault(wall if judged == "collapsed" else judged, []).append((value, name))
        for name in lost:  # a wall that is nowhere
            rows.setdefault("collapsed" if name in near else "collapsed_elsewhere", []).append((1.0, name))
        rows["not_computed"] = [(float(name in failed), name) for name in (*names, *lost)]
        n_pairs = len(names) + len(lost) + len(seen["refused_pair"])
        found = []
        for metric in METRICS:
            if metric.name not in rows:
                continue
            values = np.array([value for value, _ in rows[metric.name]])
            units: Names = np.array([name for _, name in rows[metric.name]])
            if metric.name in (*SHARES, "not_computed"):
                made = share_of(metric, values > 0.0, units)
            else:
                made = value_of(metric, np.column_stack([values, np.ones(len(values))]), units, "mean")
            if not metric.name.startswith("collapsed"):  # there all pairs that fail are in the share
                left = () if metric.name == "not_computed" else tuple(lost)
                made = replace(made, failed=left, n_all=n_pairs)
            found.append(made)
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show all curves, cut off above, and what each is judged by."""
        grid = np.linspace(float(seen["distance"].min()), float(seen["distance"].max()), self.n_points)
        curves = []
        for x, energy, first in zip(seen["distance"], seen["energy"], seen["first"].tolist(), strict=True):
            curve = np.interp(grid, x[first:], energy[first:] - energy[-1])
            curves.append(np.clip(curve, -3.0 * SHOWN_TO_EV, SHOWN_TO_EV))
        labels = _labels(seen["pair"])
        columns = (seen["distance"], seen["energy"], seen["pull"], seen["first"])
        judged = [_judged(*one) for one in zip(*columns, strict=True)]
        twisted = np.array([one["tortuosity"] for one in judged])
        return (
            Lines(
                title=f"Two atoms, energies between {-3.0 * SHOWN_TO_EV:g} and {SHOWN_TO_EV:g} eV",
                x_axis=Axis(quantity="distance", unit="Å"), y_axis=Axis(quantity="energy", unit="eV"),
                names=tuple(labels), x=grid, y=np.array(curves),
            ),
            Bars(
                title="Tortuosity of each pair", axis=Axis(quantity="tortuosity"), labels=tuple(labels),
                values=twisted, low=twisted, high=twisted,
            ),
            *left_out_view(
                "Pairs", _labels(np.concatenate([seen["failed_pair"], seen["refused_pair"]])),
                as_texts(seen["failed_reason"]) + as_texts(seen["refused_reason"]), n_used=len(labels),
            ),
        )  # fmt: skip

    def _numbers(self, data: Dataset) -> list[int]:
        """Return the atomic numbers, and refuse parameters without meaning."""
        from ase.data import atomic_numbers, covalent_radii

        if self.n_points % 2 == 0 or self.farthest_A > WIDEST_STEP_A * self.n_points:
            raise BadInput(
                f"diatomics: n_points is {self.n_points}; it must be odd and {self.farthest_A / WIDEST_STEP_A:.0f} or"
                f" more for farthest_A = {self.farthest_A:g} Å, so that a step is {WIDEST_STEP_A:g} Å at most"
            )
        if not 0.2 <= self.nearest <= 1.0 or not 4.0 <= self.farthest_A < np.inf or self.max_pairs < 1:
            raise BadInput(
                f"diatomics: nearest is {self.nearest:g}, farthest_A {self.farthest_A:g}, max_pairs {self.max_pairs}; "
                "0.2 to 1, at least 4 Å and at least 1 are needed"
            )
        unheard = [symbol for symbol in self.elements or () if symbol not in atomic_numbers]
        if unheard:
            raise BadInput(f'diatomics: elements holds \'{unheard[0]}\'; give chemical symbols, as in ["H", "O"]')
        numbers = [int(number) for number in np.unique(data.numbers)]
        if self.elements is not None:
            numbers = sorted(atomic_numbers[symbol] for symbol in self.elements)
        numbers = [number for number in numbers if covalent_radii[number] > UNKNOWN_RADIUS_A]
        if not numbers:
            raise BadInput("diatomics: no element with a known covalent radius is left; name some in 'elements'")
        return numbers

    def _places(self, pair: tuple[int, int]) -> Float:
        """Return the distances of a curve in Å."""
        from ase.data import covalent_radii

        contact_A = float(covalent_radii[pair[0]] + covalent_radii[pair[1]])
        return np.linspace(self.nearest * contact_A, max(self.farthest_A, 2.0 * contact_A), self.n_points)


def neighbours(data: Dataset) -> set[tuple[int, int]]:
    """Return the pairs of elements, smaller number first, of which one is next to the other in frames of the data.

    Next to an atom is whatever is at most a quarter farther away than its nearest neighbour: its bonds, or the shell
    around an ion or an atom of a noble gas.
    """
    found: set[tuple[int, int]] = set()
    for number in spread_out(data, N_LOOKED_AT).tolist():
        atoms = data.frames[number]
        if len(atoms) > MOST_ATOMS:
            continue
        vectors = minimum_image(
            (atoms.positions[None] - atoms.positions[:, None]).reshape(-1, 3), atoms.cell.array, atoms.pbc
        )
        distance = np.linalg.norm(vectors, axis=1).reshape(len(atoms), -1) + np.diag(np.full(len(atoms), np.inf))
        if atoms.pbc.any():  # a small cell's atoms are next to their own images
            np.fill_diagonal(distance, atoms.cell.lengths()[atoms.pbc].min())
        first, second = np.nonzero(distance <= NEXT * distance.min(axis=1, keepdims=True))
        pairs = np.sort(np.stack([atoms.numbers[first], atoms.numbers[second]], axis=1), axis=1)
        found |= {(int(one), int(other)) for one, other in np.unique(pairs, axis=0)}
    return found


def dimers(pair: tuple[int, int], distances_A: Float) -> list[Atoms]:
    """Return two atoms along x at each distance."""
    from ase import Atoms

    return [Atoms(numbers=pair, positions=[[0.0, 0.0, 0.0], [float(d), 0.0, 0.0]]) for d in distances_A]


def _spaced(pairs: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Return at most so many, evenly spaced."""
    n = min(most, len(pairs))
    return [pairs[int(k)] for k in np.floor(np.arange(n) * len(pairs) / n)]


def _wall_eV(x: Float, energy: Float) -> float:
    """Return how high the energy rises inside its minimum: what atoms must climb before they fall into each other.

    What lies behind the wall is reached by none that does not climb it, so a fit that turns over there is no matter.
    """
    minimum = int(np.argmin(np.where(x >= REACH * x[0], energy, np.inf)))
    return float(energy[: minimum + 1].max() - energy[minimum])


def _judged(x: Float, energy: Float, pull: Float, first: int) -> dict[str, float]:
    """Return the numbers of one curve by metric, of its points from the first one with an answer on.

    A rank correlation stands only where there is a stretch to take it over.
    """
    refused = first > 0
    first += (len(x) - first + 1) % 2  # Simpson's rule takes an odd number of points
    x, energy, pull = x[first:], energy[first:], pull[first:]
    step = float(x[1] - x[0])
    lowest = int(np.argmin(energy))
    worked = work_mismatch(energy, pull, step, least=LEAST_WORK_EV)
    found = {
        "work_mismatch": float(worked.mean()) if len(worked) else np.nan,
        "collapsed": float(refused or _wall_eV(x, energy) < LEAST_WALL_EV),
        "spurious_minima": float(len(minima(energy, prominence=PROMINENCE_EV)) > 1),
        "force_flips": float(sign_changes(pull, threshold=LEAST_PULL_EV_PER_A) > 1),
        "tortuosity": tortuosity(energy),
        "energy_jump": energy_jump(energy, threshold=LEAST_STEP_EV),
    }
    apart = np.flatnonzero(np.abs(energy - energy[-1]) > LEAST_STEP_EV)
    last = int(apart[-1]) if len(apart) else 0
    if lowest > 2:
        found["repulsion_rank"] = rank_correlation(energy[: lowest + 1])
    if last - lowest > 2:
        found["attraction_rank"] = rank_correlation(energy[lowest : last + 1])
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _labels(numbers: Int) -> list[str]:
    """Return what figures call each pair, shape (n_pairs, 2)."""
    from ase.data import chemical_symbols

    pairs: Sequence[Sequence[int]] = numbers.tolist()
    return ["–".join(chemical_symbols[number] for number in pair) for pair in pairs]
