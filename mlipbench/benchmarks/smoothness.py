"""Do energy, forces and force constants stay continuous while atoms leave each other's sight?

Atoms and molecules are pulled out of contact and beyond any cutoff, wherever that is (`benchmarks.paths`). Where the
energy or the forces look odd, the place is narrowed down and the jumps are measured (`physics.continuity`): of the
energy, of the forces, and of their slope along the path. A force is a vector for each atom; its jump is that of the
atom where it is largest.

A descriptor has no energy. Then the features of each atom are a vector, and so are their slope and curvature along the
path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.answers import for_pieces
from mlipbench.benchmarks.comparison import value_of
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.paths import (
    KINDS,
    Asker,
    FeatureAsker,
    Path,
    Sampled,
    dimers,
    label_of,
    pulled_atoms,
    pulled_molecules,
    sample,
    sample_covered,
    sized,
    unit_of,
)
from mlipbench.benchmarks.pieces import pieces
from mlipbench.benchmarks.sites import names_sites, units_of
from mlipbench.benchmarks.systems import as_numbers, as_texts, left_out_view
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model
from mlipbench.core.view import Axis, Bars, Lines, View
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.physics.continuity import (
    CURVATURE_SCATTER,
    SLOPE_SCATTER,
    VALUE_SCATTER,
    Breaks,
    Suspect,
    bracket,
    narrow,
    settled,
    size,
    suspects,
)
from mlipbench.units import MEV_PER_EV

ENERGIES: Final = ("energy", "force", "force_constant")
FEATURES: Final = ("feature", "feature_slope", "feature_curvature")  # of models without energies
UNITS: Final = {
    "energy": "meV", "force": "meV/Å", "force_constant": "meV/Å²",
    "feature": "", "feature_slope": "1/Å", "feature_curvature": "1/Å²",
}  # fmt: skip
# Steps that move atoms and spoil the conservation of energy; a second derivative may jump in a sound potential.
MUST: Final = ("energy", "force", "feature", "feature_slope")
STEEPEST_EV_PER_A: Final = 50.0  # where the force along a path is larger, atoms are nearer than they ever come
FEWEST_POINTS: Final = 30
SIGMAS: Final = 2.0  # of round-off, for the floor
WINDOW_A: Final = 0.1  # to either side of the places that are shown
WINDOW_POINTS: Final = 41
_NONE: Final = np.zeros(0, dtype=np.int64)
N_DIRECTIONS: Final = 16  # among features, in which breaks are looked for; they are measured in all


def _metrics(quantity: str, *, good: float, bad: float) -> tuple[Metric, Metric]:
    """Return the definitions of a jump and of its floor."""
    title, unit = quantity.replace("_", " ").capitalize(), UNITS[quantity]
    over = "root mean square over paths; interval over trajectories and pairs of elements"
    if quantity in FEATURES:
        over = f"relative to the root mean square norm of the features, each in units of its own size; {over}"
    return (
        Metric(
            name=f"{quantity}_jump", title=f"{title}: jump", unit=unit, better="lower", good=good, bad=bad,
            log_scale=True, headline=True, role="check", severity="must" if quantity in MUST else "good to know",
            says=f"largest jump on a path, real where it is above its floor; {over}",
        ),
        Metric(
            name=f"{quantity}_floor", title=f"{title}: floor", unit=unit, better="lower", good=good, bad=bad,
            log_scale=True, role="diagnostic",
            says=f"what round-off alone may give at the very places of the largest jumps; {over}",
        ),
    )  # fmt: skip


METRICS: Final = (
    *_metrics("energy", good=1e-4, bad=1.0),
    *_metrics("force", good=1e-2, bad=10.0),
    *_metrics("force_constant", good=1.0, bad=100.0),
    *_metrics("feature", good=1e-7, bad=1e-3),
    *_metrics("feature_slope", good=1e-5, bad=1e-2),
    *_metrics("feature_curvature", good=1e-2, bad=1.0),
)
DEFINED: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothness:
    """Pull atoms and molecules apart, and look for jumps.

    Attributes:
        n_frames: paths of one atom, and as many of one molecule, each from another frame.
        max_pairs: at most so many pairs of elements.
        farthest_A: length of a path; for two atoms, their longest distance.
        n_points: of the first look at a path; a break between two points must stand out against what is smooth.
        n_suspects: places of a path that are looked at closely, for the energy and for the forces, or for features.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    about: ClassVar[About] = About(
        name="smoothness",
        title="Smoothness",
        question="Do energy, forces and force constants stay continuous while atoms leave each other's sight?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="continuity up to the second derivative: a jump stays as the bracket around it shrinks",
        grade="verification",
        seconds=5.0,
    )

    n_frames: int = 3
    max_pairs: int = 10
    farthest_A: float = 12.0
    n_points: int = 161
    n_suspects: int = 3
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Sample all paths, narrow down what looks odd, and look once more across the worst places.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: the model covers no path, or all are too steep.
            ModelFailure: the model is at fault.
        """
        self._check()
        offered = self._paths(data, context)
        if offered:
            model = for_pieces(model, offered[0].start, context)
        try:
            sampled, n_refused, lost = sample_covered(model, offered, context, n_points=self.n_points)
        except NotApplicable:
            if not names_sites(model):
                raise
            return self._observe_features(model, offered, context)
        kept = [part for one in sampled if (part := _tame(one)) is not None]
        if not kept:
            raise NotApplicable(
                f"on no path do forces stay below {STEEPEST_EV_PER_A:g} eV/Å over the last {FEWEST_POINTS} points"
            )
        lost_paths = [(offered[number], reason) for number, reason in lost.items()]
        suspected = [suspect for number, one in enumerate(kept) for suspect in self._suspects(number, one)]
        found, closer = _narrowed(model, [one.path for one in kept], suspected, context)
        lost_paths += [(kept[number].path, reason) for number, reason in closer.items()]
        suspected = [suspect for suspect in suspected if suspect.curve not in closer]
        places = [number for number in range(len(kept)) if number not in closer]
        paths = [kept[number].path for number in places]
        width, scatter = found.width[:, None, :], found.scatter[:, :, None]
        seen = {
            "path_kind": np.array([path.kind for path in paths], dtype=np.int64),
            "path_origin": np.array([path.origin for path in paths], dtype=np.int64),
            "n_left_out": np.array([n_refused, len(sampled) - len(kept)]),
            "break_path": np.array([places.index(suspect.curve) for suspect in suspected], dtype=np.int64),
            "break_place": found.place,
            # The slope of the energy is the force, which models give with less noise.
            "break_jump": np.concatenate([found.value_jump, found.slope_jump[:, 1:]], axis=1),
            "break_floor": SIGMAS * np.concatenate(
                [VALUE_SCATTER * scatter + 0.0 * width, (SLOPE_SCATTER * scatter / width)[:, 1:]], axis=1
            ),
        }  # fmt: skip
        return {**seen, **_lost(lost_paths), **_windows(model, paths, _worst(seen), context)}

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return the root mean square of the largest jumps, and of their floors: all paths, and each kind."""
        worst = _worst(seen)
        units = np.array([
            unit_of(kind, origin, data)
            for kind, origin in zip(seen["path_kind"].tolist(), seen["path_origin"].tolist(), strict=True)
        ])  # fmt: skip
        lost = zip(seen.get("lost_kind", _NONE).tolist(), seen.get("lost_origin", _NONE).tolist(), strict=True)
        failed = tuple(label_of(kind, origin, data) for kind, origin in lost)
        found = []
        for part, chosen in _parts(seen["path_kind"]):
            for column, quantity in enumerate(_quantities(seen)):
                for of, numbers in (("jump", worst.jump), ("floor", worst.floor)):
                    rows, metric = squares(numbers[chosen, column]), DEFINED[f"{quantity}_{of}"]
                    value = value_of(metric, rows, units[chosen], "root_mean", part=part)
                    found.append(value if part or of == "floor" else replace(value, failed=failed))
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show each quantity across the place where it jumps most, and the largest jump of each path."""
        worst = _worst(seen)
        kinds, origins = seen["path_kind"].tolist(), seen["path_origin"].tolist()
        labels = tuple(label_of(kind, origin, data) for kind, origin in zip(kinds, origins, strict=True))
        shown: list[View] = []
        for column, quantity in enumerate(_quantities(seen)):
            title = quantity.replace("_", " ").capitalize()
            x, y = _curve(seen, column)
            shown.append(Lines(
                title=f"{title} across its worst place", names=(labels[int(worst.path[column])],), x=x, y=y[None],
                x_axis=Axis(quantity="distance from the worst place", unit="Å"),
                y_axis=Axis(quantity=f"change of the {title.lower()}", unit=UNITS[quantity]),
            ))  # fmt: skip
            values = worst.jump[:, column]
            shown.append(Bars(
                title=f"{title}: largest jump on each path", axis=Axis(quantity="jump", unit=UNITS[quantity], log=True),
                labels=labels, values=values, low=values, high=values,
            ))  # fmt: skip
        lost = zip(seen.get("lost_kind", _NONE).tolist(), seen.get("lost_origin", _NONE).tolist(), strict=True)
        names = [label_of(kind, origin, data) for kind, origin in lost]
        reasons = as_texts(seen["lost_reason"]) if names else []
        return (*shown, *left_out_view("Paths", names, reasons, n_used=len(labels)))

    def _observe_features(self, model: Model, offered: tuple[Path, ...], context: Context) -> Observation:
        """Do the same with the features of all atoms, path by path, as those of all paths may not fit into memory."""
        paths, said = sized(model, offered, context)
        units = units_of(said)
        directions = context.rng().normal(size=(len(units), N_DIRECTIONS)) / np.sqrt(N_DIRECTIONS)
        of_path, places, jumps, floors = [], [], [], []
        for number, path in enumerate(paths):
            asker = FeatureAsker(model=model, path=path, units=units, context=context)
            grid_A = np.linspace(path.first_A, path.last_A, self.n_points)
            odd = suspects(asker.along(grid_A, directions), self.n_suspects).tolist()
            found = narrow(asker, [bracket(number, 0, grid_A, one) for one in odd])
            of_path.append(np.full(len(odd), number))
            places.append(found.place)
            jumps.append(np.concatenate([found.value_jump, found.slope_jump, found.curvature_jump], axis=1))
            width, scatter = found.width, found.scatter
            each = [VALUE_SCATTER + 0.0 * width, SLOPE_SCATTER / width, CURVATURE_SCATTER / width**2]
            floors.append(SIGMAS * scatter[:, :, None] * np.stack(each, axis=1))
        seen = {
            "n_features": np.array([len(units), np.count_nonzero(units)]),
            "path_kind": np.array([path.kind for path in paths], dtype=np.int64),
            "path_origin": np.array([path.origin for path in paths], dtype=np.int64),
            "n_left_out": np.array([len(offered) - len(paths), 0]),
            "break_path": np.concatenate(of_path),
            "break_place": np.concatenate(places),
            "break_jump": np.concatenate(jumps),
            "break_floor": np.concatenate(floors),
        }
        worst, around_A = _worst(seen), np.linspace(-WINDOW_A, WINDOW_A, WINDOW_POINTS)
        for n, (number, place_A) in enumerate(zip(worst.path.tolist(), worst.place_A.tolist(), strict=True)):
            asker = FeatureAsker(model=model, path=paths[number], units=units, context=context)
            told = np.array([features for (features,) in asker([], (place_A + around_A).tolist())])
            curve = np.diff(told, n=n, axis=0) / (around_A[1] - around_A[0]) ** n
            seen[f"window_{FEATURES[n]}"] = size(curve - curve[0])
        return {**seen, "window": around_A}

    def _check(self) -> None:
        """Refuse parameters without meaning."""
        for name, least in (("n_frames", 0), ("max_pairs", 0), ("n_suspects", 1), ("n_points", FEWEST_POINTS)):
            if getattr(self, name) < least:
                raise BadInput(f"smoothness: {name} is {getattr(self, name)}; it must be {least} or more")
        if not 5.0 <= self.farthest_A < np.inf:
            raise BadInput(f"smoothness: farthest_A is {self.farthest_A:g} Å; it must be 5 Å or more")
        if not self.n_frames and not self.max_pairs:
            raise BadInput("smoothness: n_frames and max_pairs are both 0, so there is no path; set one higher")

    def _paths(self, data: Dataset, context: Context) -> tuple[Path, ...]:
        """Return all paths."""
        rng = context.rng()
        numbers = np.unique(data.numbers).tolist()
        paths = dimers(numbers, last_A=self.farthest_A, max_pairs=self.max_pairs)
        if self.n_frames:
            alone = pieces(data, self.n_frames, rng, lone_elements=self.lone_elements)
            paths += pulled_atoms(alone, rng, length_A=self.farthest_A)
            paths += pulled_molecules(alone, rng, length_A=self.farthest_A)
        return paths

    def _suspects(self, number: int, sampled: Sampled) -> Iterator[Suspect]:
        """Give the brackets of a path, for the energy and for the forces."""
        for signal, samples in enumerate((sampled.energy[:, None, None], sampled.forces)):
            for found in suspects(samples, self.n_suspects).tolist():
                yield bracket(number, signal, sampled.places_A, found)


def _narrowed(
    model: Model, paths: list[Path], suspected: list[Suspect], context: Context
) -> tuple[Breaks, dict[int, str]]:
    """Narrow down all suspects at once, and path by path where the model fails; return why it did, by path.

    Raises:
        ModelFailure: it fails on every path.
    """
    asker = Asker(model=model, paths=paths, context=context)
    try:
        return narrow(asker, suspected), {}
    except ModelFailure:
        pass
    found: list[Breaks] = []
    failed: dict[int, str] = {}
    for number in range(len(paths)):
        try:
            found.append(narrow(asker, [suspect for suspect in suspected if suspect.curve == number]))
        except ModelFailure as failure:
            failed[number] = str(failure)
    if not found:
        raise ModelFailure(next(iter(failed.values())))
    whole = {field.name: np.concatenate([getattr(one, field.name) for one in found]) for field in fields(Breaks)}
    return Breaks(**whole), failed


def _lost(paths: list[tuple[Path, str]]) -> Observation:
    """Return what an observation keeps of paths that the model failed on."""
    return {
        "lost_kind": np.array([path.kind for path, _ in paths], dtype=np.int64),
        "lost_origin": np.array([path.origin for path, _ in paths], dtype=np.int64).reshape(-1, 2),
        "lost_reason": as_numbers([reason for _, reason in paths]),
    }


def _tame(sampled: Sampled) -> Sampled | None:
    """Return the part of a path beyond which the force along it is never too steep; None when little is left."""
    pull = np.array([sampled.path.pull(forces) for forces in sampled.forces])
    steep = np.flatnonzero(np.abs(pull) > STEEPEST_EV_PER_A)
    first = int(steep[-1]) + 1 if len(steep) else 0
    if len(sampled.places_A) - first < FEWEST_POINTS:
        return None
    return Sampled(
        path=sampled.path, places_A=sampled.places_A[first:],
        energy=sampled.energy[first:], forces=sampled.forces[first:],
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worst:
    """The largest jumps.

    Attributes:
        jump: shape (n_paths, 3), the largest jump of each quantity on each path, in `UNITS`.
        floor: shape (n_paths, 3), of these jumps.
        path: shape (3,), path of the largest jump of each quantity.
        place_A: shape (3,), where it is.
    """

    jump: Float
    floor: Float
    path: Int
    place_A: Float


def _quantities(seen: Observation) -> tuple[str, ...]:
    """Return what was looked at."""
    return FEATURES if "n_features" in seen else ENERGIES


def _worst(seen: Observation) -> _Worst:
    """Find, on each path, the jump that stands out most above its floor."""
    unit = 1.0 if _quantities(seen) == FEATURES else MEV_PER_EV
    jump, floor = (unit * part for part in settled(seen["break_jump"], seen["break_floor"]))
    of_path, n_paths = seen["break_path"], len(seen["path_kind"])
    chosen = np.zeros((n_paths, jump.shape[1]), dtype=np.int64)
    for k in range(n_paths):
        own = np.flatnonzero(of_path == k)
        chosen[k] = own[np.argmax(jump[own] - floor[own], axis=0)]
    columns = np.arange(jump.shape[1])
    jumps, floors = jump[chosen, columns], floor[chosen, columns]
    path = np.argmax(jumps - floors, axis=0)
    return _Worst(jump=jumps, floor=floors, path=path, place_A=seen["break_place"][chosen[path, columns]])


def _windows(model: Model, paths: list[Path], worst: _Worst, context: Context) -> dict[str, Float]:
    """Ask once more across the worst place of each quantity; energies in eV, forces along the path in eV/Å."""
    around_A = np.linspace(-WINDOW_A, WINDOW_A, WINDOW_POINTS)
    energy, pull = [], []
    for number, place_A in zip(worst.path.tolist(), worst.place_A.tolist(), strict=True):
        sampled = sample(model, paths[number], place_A + around_A, context)
        energy.append(sampled.energy)
        pull.append([sampled.path.pull(forces) for forces in sampled.forces])
    return {"window": around_A, "window_energy": np.array(energy), "window_pull": np.array(pull)}


def _curve(seen: Observation, column: int) -> tuple[Float, Float]:
    """Return distances, and the change of a quantity from the left end; that of the energy less its tangent there."""
    x, quantity = seen["window"], _quantities(seen)[column]
    if quantity in FEATURES:
        return 0.5 * (x[column:] + x[: len(x) - column]), seen[f"window_{quantity}"]
    pull = seen["window_pull"][column] * MEV_PER_EV
    if quantity == "energy":
        energy = seen["window_energy"][column] * MEV_PER_EV
        return x, energy - energy[0] + pull[0] * (x - x[0])
    if quantity == "force":
        return x, pull - pull[0]
    slope = np.diff(pull) / np.diff(x)
    return 0.5 * (x[1:] + x[:-1]), slope - slope[0]


def _parts(kinds: Int) -> Iterator[tuple[str, Bool]]:
    """Give the name and the paths of each part: everything, then each kind."""
    yield "", np.ones(len(kinds), dtype=bool)
    for kind, name in enumerate(KINDS):
        if (kinds == kind).any():
            yield f"kind={name}", kinds == kind
