"""How high is the barrier of a reaction, along the reference's path and along the model's own?

fixed   energies and forces at the reference's images, as they are
own     the model relaxes both end points and pulls a band of its own taut between them, whose highest image climbs

A path is one trajectory: its frames in order, from minimum over saddle to minimum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Errors, Names, error_values, value_of, values_by_config_type
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.minima import bonded_alike
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.path_frames import paths_of, rows_of, saddle_of
from mlipbench.benchmarks.systems import (
    Systems,
    any_answer,
    blamed,
    first_blame,
    left_out_view,
    share_failed,
    size_of_mean,
)
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import magnitudes
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model, Predictions
from mlipbench.core.policy import counted_zero
from mlipbench.core.view import Axis, Bars, Lines, View
from mlipbench.errors import MissingPackage, MlipbenchError, ModelFailure, NotApplicable
from mlipbench.physics.vibrations import rmsd_squares_A2
from mlipbench.simulate.reaction_path import ReactionPath, climbing_path
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

OVER: Final = "interval over paths"
OWN: Final = "of the model's own band, over paths where it converged"
METRICS: Final = (
    Metric(
        name="path_rmse", title="Energy along the path", unit="meV", better="lower", good=10.0, bad=500.0,
        lowest=0.0,
        says="root of the mean squared error of the energy less that of the first image, at the reference's images,"
        f" over all images but the first; {OVER}",
    ),
    Metric(
        name="path_force_rmse", title="Force along the path", unit="meV/Å", better="lower", good=20.0, bad=500.0,
        lowest=0.0,
        says="root of the mean squared error over all force components of all atoms, at the reference's images;"
        f" {OVER}",
    ),
    Metric(
        name="fixed_barrier_mae", title="Barrier, fixed geometry", unit="meV", better="lower", good=10.0, bad=500.0,
        role="diagnostic", lowest=0.0,
        says="mean absolute error of the energy of the reference's highest image less that of its first, over paths;"
        f" {OVER}",
    ),
    Metric(
        name="barrier_mae", title="Barrier", unit="meV", better="lower", good=10.0, bad=500.0, headline=True,
        lowest=0.0,
        says=f"mean absolute error of the energy of the highest image less that of the first, {OWN}; {OVER}",
    ),
    Metric(
        name="barrier_bias", title="Barrier bias", unit="meV", better="lower", good=5.0, bad=500.0,
        role="diagnostic", lowest=0.0,
        says=f"size of the mean signed error of the same, whose sign a figure shows; {OVER}",
    ),
    Metric(
        name="reaction_energy_mae", title="Reaction energy", unit="meV", better="lower", good=10.0, bad=500.0,
        lowest=0.0,
        says=f"mean absolute error of the energy of the last image less that of the first, {OWN}; {OVER}",
    ),
    Metric(
        name="saddle_rmsd", title="Saddle RMSD", unit="Å", better="lower", good=0.02, bad=0.5,
        lowest=0.0,
        says="root of the mean squared distance of the atoms of the highest image from the reference's, over all atoms,"
        f" {OWN}, superposed (without a turn where there is a cell); {OVER}",
    ),
    Metric(
        name="not_converged", title="Paths without a barrier", unit="", better="lower", good=0.0, bad=0.5,
        role="diagnostic", lowest=0.0, highest=1.0,
        says="share of paths, of those the model covers, that are missing in the numbers of the model's own band: an"
        " end point or the band did not come to rest, an end point became another structure, or the model failed;"
        " interval over paths, by Clopper and Pearson",
    ),
    Metric(
        name="steps", title="Steps of the band", unit="", better="lower", good=100.0, bad=500.0,
        role="diagnostic", lowest=0.0,
        says=f"mean number of steps {OWN}, each with one question about all images; {OVER}",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
NOT_COVERED, FAILED, ENDS_MOVING, ELSEWHERE, BAND_MOVING = range(1, 6)
REASONS: Final = {
    0: "measured",
    NOT_COVERED: "not covered",
    FAILED: "the model failed",
    ENDS_MOVING: "an end point did not come to rest",
    ELSEWHERE: "an end point became another structure",
    BAND_MOVING: "the band did not come to rest",
}
MOST_SHOWN: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionPaths:
    """Ask along the reference's path, and let the model find its own from there.

    Needs data whose trajectories are paths: three frames or more each, in order, from one minimum of the reference to
    another, of the same atoms in the same order and cell. The highest frame counts as the reference's saddle, so it
    should be that of a climbing image.

    Attributes:
        largest_force_eV_A: end points and band are at rest when no force on an atom is larger.
        most_steps: of the band.
        most_end_steps: of the end points.
        spring_eV_A2: stiffness of the springs between images.
        method: "improvedtangent", or "aseneb".
        lone_elements: never bonded when end points are compared with the reference's.
    """

    about: ClassVar[About] = About(
        name="reaction_path",
        title="Reaction paths",
        question="How high is the barrier of a reaction, along the reference's path and along the model's own?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="G. Henkelman, B. P. Uberuaga, H. Jónsson, J. Chem. Phys. 113, 9901 (2000), doi:10.1063/1.1329672",
        needs=frozenset({"labels"}),
        seconds=20.0,
    )

    largest_force_eV_A: float = 0.01
    most_steps: int = 500
    most_end_steps: int = 2000
    spring_eV_A2: float = 1.0
    method: str = "improvedtangent"
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Predict every path as it is, and pull a band of the model's own; one that fails is noted and left out.

        Raises:
            BadInput: a parameter is out of range, or a trajectory is no path with a barrier.
            NotApplicable: the model covers no path.
            ModelFailure: it covers some, and fails on every one of them.
        """
        paths = list(paths_of(data).values())
        images = [[data.frames[i] for i in frames] for frames in paths]
        tried = [self._tried(model, own, context) for own in images]
        answered = [own[0] for own, one in zip(images, tried, strict=True) if one.said]
        if not answered:
            answered = any_answer(model, [image for own in images for image in own], context)
        tried = [one.judged(model, own, answered) for own, one in zip(images, tried, strict=True)]
        if not any(one.said for one in tried):
            raise first_blame(one.error for one in tried if one.error is not None)
        seen = {
            "reason": np.array([one.reason for one in tried]),
            "has_points": np.array([one.said is not None for one in tried]),
            "n_steps": np.array([one.own.n_steps if one.own else 0 for one in tried]),
            "n_calls": np.array([one.own.n_calls if one.own else 0 for one in tried]),
            "energy": np.zeros(len(data)), "forces": np.zeros_like(data.forces),
            "own_energy": np.zeros(len(data)), "own_positions": np.zeros_like(data.forces),
        }  # fmt: skip
        for frames, one in zip(paths, tried, strict=True):
            rows = rows_of(data, frames)
            if one.said:
                seen["energy"][frames], seen["forces"][rows] = one.said.energy, one.said.forces
            if one.own and not one.reason:
                seen["own_energy"][frames] = one.own.energy_eV
                seen["own_positions"][rows] = np.concatenate([image.positions for image in one.own.images])
        return seen

    def _tried(self, model: Model, images: Sequence[Atoms], context: Context) -> _Tried:
        """Return what one path gave, or why there is nothing."""
        said = None
        try:
            said = predict(model, images, context, remark="reference's path")
            own = climbing_path(
                model, images, largest_force_eV_A=self.largest_force_eV_A, n_steps=self.most_steps,
                n_end_steps=self.most_end_steps, spring_eV_A2=self.spring_eV_A2, method=self.method,
                progress=context.progress,
            )  # fmt: skip
        except MissingPackage:
            raise
        except (ModelFailure, NotApplicable) as error:
            return _Tried(reason=FAILED, error=error, said=said)
        return _Tried(reason=self._judged(images, own), said=said, own=own)

    def _judged(self, images: Sequence[Atoms], own: ReactionPath) -> int:
        """Return why a path of the model's own does not count, or zero."""
        if not own.ends_rest:
            return ENDS_MOVING
        if not all(bonded_alike(images[k], own.images[k], self.lone_elements) for k in (0, -1)):
            return ELSEWHERE
        return 0 if own.converged else BAND_MOVING

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare energies, forces, barriers and saddles: everything, and each kind of path."""
        points, forces = _along(seen, data)
        fixed: list[MetricValue] = []
        for errors, kind in ((points, "rmse"), (forces, "rmse"), (_barriers(seen, data, own=False), "mae")):
            fixed += error_values(errors, METRICS, kinds=(kind,))
            fixed += values_by_config_type(errors, METRICS, kinds=(kind,))
        zero, systems = _zero(seen, data), _systems(seen, data, own=True)
        return (
            *_systems(seen, data, own=False).told(fixed, zero=zero), *systems.told(_of_own(seen, data), zero=zero),
            share_failed(DEFINED["not_converged"], systems),
        )  # fmt: skip

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return names of metrics that these data allow: all."""
        return tuple(DEFINED)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show energies along some paths, the errors of all barriers with their signs, and what was left out."""
        names = list(paths_of(data))
        shown, lost = np.flatnonzero(seen["has_points"]), np.flatnonzero(seen["reason"])
        spaced = np.unique(np.linspace(0, len(shown) - 1, min(MOST_SHOWN, len(shown))).round().astype(np.int64))
        return (
            *(_curve(seen, data, number, names[number]) for number in shown[spaced].tolist()),
            *_error_bars(seen, data),
            *left_out_view(
                "Paths", [names[k] for k in lost], [REASONS[k] for k in seen["reason"][lost].tolist()],
                n_used=len(names) - len(lost),
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tried:
    """What one path gave.

    Attributes:
        reason: number among `REASONS`; 0 when the model's own band was measured.
        error: the model's, if there was one.
        said: at the reference's images; None where the model had no answer.
        own: the model's own band, as far as it came.
    """

    reason: int
    error: MlipbenchError | None = None
    said: Predictions | None = None
    own: ReactionPath | None = None

    def judged(self, model: Model, images: Sequence[Atoms], answered: Sequence[Atoms]) -> _Tried:
        """Return the same, its reason another one where the model does not cover the path."""
        if self.error is None:
            return self
        error = blamed(model, images, self.error, answered=answered)
        return replace(self, error=error, reason=NOT_COVERED if isinstance(error, NotApplicable) else FAILED)


def _of_own(seen: Observation, data: Dataset) -> list[MetricValue]:
    """Return what there is to say of the model's own bands."""
    found: list[MetricValue] = []
    own = _barriers(seen, data, own=True)
    for errors in (own, _reaction_energies(seen, data)):
        found += error_values(errors, METRICS, kinds=("mae",))
        found += values_by_config_type(errors, METRICS, kinds=("mae",))
    if not len(own.units):
        return found
    apart = np.array([_apart(seen, data, frames) for frames in _chosen(data, seen["reason"] == 0)])
    steps = seen["n_steps"][seen["reason"] == 0].astype(np.float64)
    return [
        *found,
        size_of_mean(DEFINED["barrier_bias"], own),
        value_of(DEFINED["saddle_rmsd"], apart, own.units, "root_mean"),
        value_of(DEFINED["steps"], magnitudes(steps), own.units, "mean"),
    ]


def _systems(seen: Observation, data: Dataset, *, own: bool) -> Systems:
    """Return which paths were asked about, and which have no answer: for a band of their own, or at its images."""
    paths = paths_of(data)
    names: Names = np.array(list(paths))
    covered = seen["reason"] != NOT_COVERED
    failed = covered & (seen["reason"] > 0 if own else ~seen["has_points"])
    return Systems(
        names=tuple(paths), kinds=tuple(data.config_type[int(frames[0])] for frames in paths.values()),
        covered=frozenset(names[covered].tolist()), failed=frozenset(names[failed].tolist()),
    )  # fmt: skip


def _zero(seen: Observation, data: Dataset) -> dict[str, float]:
    """Return what a model of a constant energy gets, over all paths that this one covers: it has no barrier."""
    covered = seen["reason"] != NOT_COVERED
    flat = {
        "reason": np.where(covered, 0, NOT_COVERED), "has_points": covered, "energy": np.zeros(len(data)),
        "forces": np.zeros_like(data.forces), "own_energy": np.zeros(len(data)),
    }  # fmt: skip
    points, forces = _along(flat, data)
    errors = (
        (points, "rmse"), (forces, "rmse"), (_barriers(flat, data, own=True), "mae"),
        (_reaction_energies(flat, data), "mae"),
    )  # fmt: skip
    values = [value for one, kind in errors for value in error_values(one, METRICS, kinds=(kind,))]
    return {value.metric: counted_zero(DEFINED[value.metric], value) for value in values}


def _chosen(data: Dataset, which: Bool) -> list[Int]:
    """Return the frames of some paths."""
    return [frames for frames, wanted in zip(paths_of(data).values(), which, strict=True) if wanted]


def _along(seen: Observation, data: Dataset) -> tuple[Errors, Errors]:
    """Return energies less that of the first image, in meV, and forces, in meV/Å, at the reference's images."""
    paths = _chosen(data, seen["has_points"])
    later = np.concatenate([frames[1:] for frames in paths])
    first = np.concatenate([np.full(len(frames) - 1, frames[0]) for frames in paths])
    rows = np.concatenate([rows_of(data, frames) for frames in paths])
    energies = _errors("path", data, later, *(e[later] - e[first] for e in (data.energy, seen["energy"])))
    return energies, _errors("path_force", data, data.frame_of_atom[rows], data.forces[rows], seen["forces"][rows])


def _barriers(seen: Observation, data: Dataset, *, own: bool) -> Errors:
    """Return barriers in meV beside the reference's: of the model's own bands, or at the reference's images."""
    paths = _chosen(data, seen["reason"] == 0 if own else seen["has_points"])
    energy = seen["own_energy" if own else "energy"]
    starts = np.array([frames[0] for frames in paths], dtype=np.int64)
    saddles = np.array([saddle_of(data.energy, frames) for frames in paths], dtype=np.int64)
    tops = np.array([saddle_of(energy, frames) for frames in paths], dtype=np.int64) if own else saddles
    of = "barrier" if own else "fixed_barrier"
    return _errors(of, data, starts, data.energy[saddles] - data.energy[starts], energy[tops] - energy[starts])


def _reaction_energies(seen: Observation, data: Dataset) -> Errors:
    """Return the energies of last images less those of first ones, in meV, of the model's own bands."""
    paths = _chosen(data, seen["reason"] == 0)
    starts = np.array([frames[0] for frames in paths], dtype=np.int64)
    lasts = np.array([frames[-1] for frames in paths], dtype=np.int64)
    differences = (energy[lasts] - energy[starts] for energy in (data.energy, seen["own_energy"]))
    return _errors("reaction_energy", data, starts, *differences)


def _errors(of: str, data: Dataset, frames: Int, reference: Float, predicted: Float) -> Errors:
    """Return eV, or eV/Å, in meV with the path and kind of each item."""
    return Errors(
        of=of, reference=MEV_PER_EV * reference, predicted=MEV_PER_EV * predicted,
        units=np.array(data.trajectory)[frames], config_types=np.array(data.config_type)[frames],
    )  # fmt: skip


def _apart(seen: Observation, data: Dataset, frames: Int) -> tuple[float, int]:
    """Return the sum over atoms of squared distances between the two saddles of a path, Å², and their number."""
    theirs, own = saddle_of(data.energy, frames), saddle_of(seen["own_energy"], frames)
    fixed, moved = data.frames[theirs].positions, seen["own_positions"][rows_of(data, np.array([own]))]
    if data.frames[theirs].pbc.any():
        away = moved - fixed
        return float(((away - away.mean(axis=0)) ** 2).sum()), len(fixed)
    return float(rmsd_squares_A2(moved, fixed).sum()), len(fixed)


def _curve(seen: Observation, data: Dataset, number: int, name: str) -> Lines:
    """Return the energies along one path: the reference's, the model's at the same images, and those of its own."""
    frames = paths_of(data)[name]
    curves = {"reference": data.energy, "model, at the reference's images": seen["energy"]}
    if seen["reason"][number] == 0:
        curves["model, own path"] = seen["own_energy"]
    return Lines(
        title=f"Energy along {name}",
        x_axis=Axis(quantity="image"), y_axis=Axis(quantity="energy less that of the first image", unit="meV"),
        names=tuple(curves), x=np.arange(len(frames), dtype=np.float64),
        y=np.array([MEV_PER_EV * (energy[frames] - energy[frames[0]]) for energy in curves.values()]),
    )  # fmt: skip


def _error_bars(seen: Observation, data: Dataset) -> Iterator[Bars]:
    """Give the signed errors of all barriers; those of the model's own bands where there is one."""
    for title, own in (("Barrier errors at the reference's images", False), ("Barrier errors of own paths", True)):
        errors = _barriers(seen, data, own=own)
        values = errors.predicted - errors.reference
        if len(values):
            yield Bars(
                title=title, axis=Axis(quantity="model less reference", unit="meV"),
                labels=tuple(errors.units.tolist()), values=values, low=values, high=values,
            )  # fmt: skip
