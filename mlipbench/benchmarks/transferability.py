"""How do errors grow with the distance from the conditions a model was trained at?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from scipy import stats

from mlipbench.benchmarks.comparison import bars
from mlipbench.benchmarks.density import DEFINED as DENSITY
from mlipbench.benchmarks.density import Density
from mlipbench.benchmarks.frames import predict_all
from mlipbench.benchmarks.motion import Motion
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import measure, squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import ModelFailure, NotApplicable, unknown
from mlipbench.physics.molecules import find_molecules
from mlipbench.physics.statistics import CONFIDENCE
from mlipbench.units import BAR_PER_EV_PER_CUBIC_ANGSTROM, MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

OVER: Final = "interval over trajectories"
WORST: Final = "interval over trajectories of all states at once, wide enough for the choice of the worst"
METRICS: Final = (
    Metric(
        name="force_rmse", title="Force RMSE", unit="meV/Å", better="lower", good=20.0, bad=200.0, lowest=0.0,
        says=f"root of the mean squared error over all components of all atoms of a state; {OVER}",
    ),
    Metric(
        name="pressure_rmse", title="Pressure RMSE", unit="kbar", better="lower", good=0.5, bad=20.0, log_scale=True,
        lowest=0.0,
        says=f"root of the mean squared error of the virial part of the pressure, a third of the stress' trace; {OVER}",
    ),
    Metric(
        name="worst_force_rmse", title="Worst force RMSE", unit="meV/Å", better="lower", good=20.0, bad=200.0,
        headline=True, lowest=0.0, says=f"the largest force RMSE of any state; {WORST}",
    ),
    Metric(
        name="worst_pressure_rmse", title="Worst pressure RMSE", unit="kbar", better="lower", good=0.5, bad=20.0,
        log_scale=True, headline=True, lowest=0.0, says=f"the largest pressure RMSE of any state; {WORST}",
    ),
    replace(DENSITY["density_excess"], headline=False),
    replace(
        DENSITY["density_excess"], name="worst_density_excess", title="Worst density error beyond noise",
        says=f"the largest density error beyond noise of any state, when dynamics is run; {WORST}",
    ),
    DENSITY["density_error"],
    DENSITY["density_resolution"],
    Metric(
        name="states_too_short", title="States whose runs are too short", unit="", better="lower", good=0.0, bad=1.0,
        role="diagnostic", lowest=0.0, highest=1.0,
        says="share of the states with a reference density at which such trajectories are too short to tell it; no"
        " interval",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
# What counts as one step away from home: a doubling of the size, a third of the composition, 75 K, and a decade of
# pressure above what holds the liquid together (about 1 kbar).
SHARE_STEP: Final = 1.0 / 3.0
TEMPERATURE_STEP_K: Final = 75.0
COHESION_BAR: Final = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferability(Motion):
    """The same model at every state of the data: size, composition, temperature and pressure.

    States are the configuration types of the data. Their distance from `home` is the root of the sum of squares of
    doublings of the number of molecules, thirds of the first molecule's share, steps of 75 K, and decades of
    P + 1 kbar. Forces and pressures are compared on the reference's own frames; densities, where `with_dynamics` is
    set, after the model's own dynamics.

    Attributes:
        home: the state nearest to the training data.
        with_dynamics: run constant-pressure dynamics at every state that has a reference density.
    """

    about: ClassVar[About] = About(
        name="transferability",
        title="Transferability",
        question="How do errors grow with the distance from the conditions a model was trained at?",
        metrics=METRICS,
        observe_version=2,
        score_version=3,
        needs=frozenset({"labels"}),
        source="states and distance as described in docs/metrics.md; after the tests of I. B. Magdău et al., npj"
        " Comput. Mater. 9, 146 (2023)",
        seconds=30.0,
    )

    home: str = ""
    with_dynamics: bool = False

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Predict all frames; run the dynamics where that is wanted.

        Raises:
            BadInput: there is no state called `home`.
            NotApplicable: there is only one state, or a frame has no temperature.
            ModelFailure: the model is at fault on the reference's frames.
        """
        states = _states(data)
        if len(states) < 2:
            raise NotApplicable(f"data set {data.spec.name} holds one state only here; take split 'all'")
        home = self.home or states[0]
        if home not in states:
            raise unknown("state", home, states, where="transferability, parameter home")
        said = predict_all(model, data.frames, context, remark="frames")
        seen: dict[str, Float] = {
            "forces": said.forces,
            "stress": said.stress,
            "has_stress": said.has_stress.astype(np.float64),
            "distance": _distances(data, states, home),
        }
        if self.with_dynamics:
            seen |= self._densities(model, data, context, states)
        return seen

    def _density(self) -> Density:
        """Return the benchmark of one state's density with the same parameters."""
        return Density(**{name: getattr(self, name) for name in Motion.__dataclass_fields__})

    def _densities(self, model: Model, data: Dataset, context: Context, states: Sequence[str]) -> dict[str, Float]:
        """Return the density trajectories of each state; one that fails has none, and counts as failed."""
        seen: dict[str, Float] = {}
        failed, short = np.zeros(len(states)), np.zeros(len(states))
        for k, state in enumerate(states):
            if f"{state}/density_series" not in data.observables:
                continue
            try:
                found = self._density().observe(model, _of(data, state), context)
            except ModelFailure:
                failed[k] = 1.0
                continue
            except NotApplicable as error:
                context.progress(k, len(states), str(error))
                short[k] = 1.0
                continue
            seen |= {f"{name}_{k}": found[name] for name in found}
        return {**seen, "failed": failed, "short": short}

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the names of what these data allow, and these trajectories."""
        stresses = ("pressure_rmse", "worst_pressure_rmse") if data.has_stress.any() else ()
        densities = ("worst_density_excess",) if self.with_dynamics and self._told(data) else ()
        return ("worst_force_rmse", *stresses[1:], *densities)

    def _told(self, data: Dataset) -> bool:
        """Are the trajectories long enough for the density of some state?"""
        for state in _states(data):
            if f"{state}/density_series" in data.observables:
                try:
                    self._density().foreseen(_of(data, state))
                except NotApplicable:
                    continue
                return True
        return False

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare state by state, and name the worst."""
        values: list[MetricValue] = []
        states = _states(data)
        for k, state in enumerate(states):
            values += _static_values(seen, data, state)
            values += self._density_values(seen, data, state, k)
        failed = tuple(state for k, state in enumerate(states) if "failed" in seen and seen["failed"][k] > 0.0)
        worst = [_worst(values, of) for of in ("force_rmse", "pressure_rmse")]
        worst.append(_worst(values, "density_excess", failed=failed))
        if "short" in seen:
            n = sum(f"{state}/density_series" in data.observables for state in states)
            share = float(seen["short"].sum()) / max(n, 1)
            worst.append(MetricValue(metric="states_too_short", value=share, n=n))
        return (*values, *(value for value in worst if value is not None))

    def _density_values(self, seen: Observation, data: Dataset, state: str, k: int) -> list[MetricValue]:
        own = {name: seen[f"{name}_{k}"] for name in ("time", "density", "is_own_engine") if f"{name}_{k}" in seen}
        if not own:
            return []
        found = self._density().score(own, _of(data, state))
        return [replace(one, part=f"state={state}") for one in found if one.metric != "density_deviations"]

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show each state's error, and errors over the distance from home."""
        values = self.score(seen, data)
        shown: list[View] = []
        titles = {"force_rmse": "meV/Å", "pressure_rmse": "kbar", "density_excess": "%"}
        order = np.argsort(seen["distance"], kind="stable")
        for name, unit in titles.items():
            own = {value.part.partition("=")[2]: value for value in values if value.metric == name}
            if not own:
                continue
            axis = Axis(quantity=DEFINED[name].title, unit=unit)
            shown.append(bars(f"{axis.quantity} by state", axis, list(own.values())))
            kept = [int(k) for k in order if _states(data)[k] in own]
            shown.append(
                Lines(
                    title=f"{axis.quantity} over the distance from training",
                    x_axis=Axis(quantity="distance from the home state", unit="steps"),
                    y_axis=axis,
                    names=(axis.quantity,),
                    x=seen["distance"][kept],
                    y=np.array([[own[_states(data)[k]].value for k in kept]]),
                )
            )
        return tuple(shown)


def _states(data: Dataset) -> list[str]:
    return list(dict.fromkeys(data.config_type))


def _of(data: Dataset, state: str) -> Dataset:
    return data.take([i for i, kind in enumerate(data.config_type) if kind == state])


def _static_values(seen: Observation, data: Dataset, state: str) -> list[MetricValue]:
    """Return a state's errors of forces and pressures on the reference's frames."""
    chosen = np.array([kind == state for kind in data.config_type])
    rows = np.repeat(chosen, data.n_atoms)
    units = np.repeat(np.array(data.trajectory), data.n_atoms)[rows].tolist()
    errors, part = MEV_PER_EV * (seen["forces"] - data.forces)[rows], f"state={state}"
    zero = float(MEV_PER_EV * np.sqrt(np.mean(data.forces[rows] ** 2)))
    values = [replace(measure(DEFINED["force_rmse"], squares(errors), units, "root_mean", part=part), zero=zero)]
    usable = chosen & data.has_stress & (seen["has_stress"] > 0.0)
    if usable.any():
        wrong, right = (_kbar(stress)[usable] for stress in (seen["stress"] - data.stress, data.stress))
        names = np.array(data.trajectory)[usable].tolist()
        pressure = measure(DEFINED["pressure_rmse"], squares(wrong), names, "root_mean", part=part)
        values.append(replace(pressure, zero=float(np.sqrt(np.mean(right**2)))))
    return values


def _kbar(stress: Float) -> Float:
    """Return a third of the trace, kbar, shape (n_frames, 1)."""
    found: Float = np.trace(stress, axis1=1, axis2=2)[:, None] / 3.0 * BAR_PER_EV_PER_CUBIC_ANGSTROM / 1000.0
    return found


def _worst(values: Sequence[MetricValue], of: str, *, failed: tuple[str, ...] = ()) -> MetricValue | None:
    """Return the largest value of a metric as its own, or what is worse; where a state failed, the scale's worst."""
    own = [value for value in values if value.metric == of]
    name = f"worst_{of}"
    if failed:  # no state is worse than one where the model has no answer
        value = max([DEFINED[name].bad, *(one.value for one in own)])
        return MetricValue(metric=name, value=value, n=len(own), failed=failed, n_all=len(own) + len(failed))
    if not own:
        return None
    worst = max(own, key=lambda value: value.value)
    low, high = _largest_between(own, is_relative=of != "density_excess")
    return replace(worst, metric=name, part="", samples=None, low=low, high=high)


def _largest_between(own: Sequence[MetricValue], *, is_relative: bool) -> tuple[float | None, float | None]:
    """Return an interval for the largest of several values, whichever it is; none where a state has no error.

    States have few trajectories each. Their scatter is pooled, as a share of the value or as it is, and every state's
    interval is widened until all hold together (Bonferroni): the largest true value then lies between the largest lower
    and the largest upper end.

    Source: O. J. Dunn, J. Am. Stat. Assoc. 56, 52 (1961).
    """
    value, n = np.array([one.value for one in own]), np.array([one.n for one in own])
    if any(one.stderr is None for one in own) or (is_relative and not (value > 0.0).all()):
        return None, None
    stderr = np.array([one.stderr for one in own], dtype=np.float64) / (value if is_relative else 1.0)
    freedom = int((n - 1).sum())
    pooled = np.sqrt(((n - 1) * n * stderr**2).sum() / freedom / n)
    reach = float(stats.t.isf(0.5 * (1.0 - CONFIDENCE) / len(own), freedom)) * pooled
    if is_relative:
        return float((value * np.exp(-reach)).max()), float((value * np.exp(reach)).max())
    return float(np.maximum(value - reach, 0.0).max()), float((value + reach).max())


def _distances(data: Dataset, states: Sequence[str], home: str) -> Float:
    """Return how many steps each state is away from home, shape (n_states,)."""
    places = np.array([_place(data, list(data.config_type).index(state)) for state in states])
    away: Float = np.linalg.norm(places - places[list(states).index(home)], axis=1)
    return away


def _place(data: Dataset, i: int) -> tuple[float, float, float, float]:
    """Return size, composition, temperature and pressure of a frame in steps."""
    frame, offsets = data.frames[i], data.offsets
    if data.molecule is not None:
        molecule = data.molecule[offsets[i] : offsets[i + 1]]
    else:
        from ase.data import covalent_radii

        molecule = find_molecules(frame.positions, frame.cell.array, frame.pbc, radii=covalent_radii[frame.numbers])
    formulas = [_formula(frame, molecule == number) for number in np.unique(molecule)]
    share = formulas.count(min(formulas)) / len(formulas) if len(set(formulas)) > 1 else _pure(formulas[0], data)
    temperature = frame.info.get("temperature_K")
    if temperature is None:
        raise NotApplicable(f"data set {data.spec.name}: frame {data.uid[i]} has no key temperature_K")
    pressure = float(frame.info.get("pressure_bar") or 0.0)
    return (
        float(np.log2(len(formulas))),
        share / SHARE_STEP,
        float(temperature) / TEMPERATURE_STEP_K,
        float(np.log10(max(pressure, 0.0) + COHESION_BAR)),
    )


def _formula(frame: Atoms, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    return str(frame[chosen].get_chemical_formula())


def _pure(formula: str, data: Dataset) -> float:
    """Return the share of the first molecule in a pure liquid: all of it or none."""
    first = (
        min(
            _formula(data.frames[i], np.asarray(data.molecule[data.offsets[i] : data.offsets[i + 1]] == number))
            for i in range(len(data))
            for number in np.unique(data.molecule[data.offsets[i] : data.offsets[i + 1]])
        )
        if data.molecule is not None
        else formula
    )
    return 1.0 if formula == first else 0.0
