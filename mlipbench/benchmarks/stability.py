"""Does dynamics last, and what goes wrong when it does not?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.endings import ends
from mlipbench.benchmarks.motion import ROUNDING_PS, Motion, Moved, compared_ps, moved, until
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.dynamics import Track
from mlipbench.core.measure import measure
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model
from mlipbench.core.view import Axis, Bars, Lines, View
from mlipbench.errors import BadInput, MissingPackage, ModelFailure
from mlipbench.models import load
from mlipbench.models.entries import read_model
from mlipbench.physics.failures import KINDS
from mlipbench.physics.survival import clopper_pearson, kaplan_meier, poisson_rate

if TYPE_CHECKING:
    from ase import Atoms

METRICS: Final = (
    Metric(
        name="survival", title="Survival", unit="", better="higher", good=1.0, bad=0.0, headline=True, lowest=0.0,
        highest=1.0,
        says="share of trajectories that show none of the failures over the length that all models have, which the"
        " row's name tells; interval over trajectories, by Clopper and Pearson",
    ),
    Metric(
        name="failure_rate", title="Failure rate", unit="1/ns", better="lower", good=1.0, bad=1e4, log_scale=True,
        lowest=0.0,
        says="failures over the time that all trajectories lasted, up to that length; exact Poisson interval",
    ),
    Metric(
        name="failure_rate_bound", title="Failure rate not excluded", unit="1/ns", better="lower", good=1.0, bad=1e4,
        log_scale=True, role="diagnostic", lowest=0.0,
        says="upper end of that interval: with no failure seen, what this much dynamics cannot rule out; no interval",
    ),
    Metric(
        name="compared_length", title="Length compared", unit="ps", better="higher", good=1e3, bad=1.0, log_scale=True,
        role="diagnostic", lowest=0.0, says="length of every trajectory that counts; no interval",
    ),
    Metric(
        name="survival_to_end", title="Survival to the end", unit="", better="higher", good=1.0, bad=0.0,
        role="diagnostic", lowest=0.0, highest=1.0,
        says="the same over all that this model's kind was given, where that is longer; interval likewise",
    ),
)  # fmt: skip
SHARE: Final = "mean"  # of rows (survived, 1)
RATE: Final = "mean"  # of rows (failures, ns)
DEFINED: Final = {metric.name: metric for metric in METRICS}
PS_PER_NS: Final = 1e3
LEAST_PS: Final = 1e-6  # a rate needs some time
N_SHOWN: Final = 101
# Beyond what heat does: at 1200 K molecules of GFN1-xTB show forces of up to 15 eV/Å, and kT is 0.1 eV.
ORACLE_FORCE_EV_A: Final = 40.0
ORACLE_RISE_EV: Final = 0.15  # per atom


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability(Motion):
    """Trajectories at several temperatures and pressures, looked through for everything that goes wrong.

    Failures are: a number that is not finite, temperature runaway, fragments, other changes of bonds, a lost hydrogen
    atom, atoms too close, density collapse, a bubble, evaporation, energy drift, a flying ice cube, frozen atoms
    (`physics.failures`), and a model that gives no answer. None needs a reference, so any frames will do to start from.

    Attributes:
        temperatures_K: with each of the pressures; none takes the data's own state.
        pressures_bar: for constant pressure; none with temperatures keeps the cells.
        oracle: a model, such as "gfn1", that looks at the last frame of every trajectory in which nothing was found, so
            that what the criteria miss does not pass for health; empty for none. Left out where its package is missing.
    """

    about: ClassVar[About] = About(
        name="stability",
        title="Stability",
        question="Does dynamics last, and what goes wrong when it does not?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="criteria in docs/metrics.md, after X. Fu et al., Trans. Mach. Learn. Res. (2023); survival after E. L."
        " Kaplan & P. Meier, J. Am. Stat. Assoc. 53, 457 (1958)",
        seconds=120.0,
    )

    temperatures_K: tuple[float, ...] = ()
    pressures_bar: tuple[float, ...] = ()
    oracle: str = ""

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run the dynamics and look for failures.

        Raises:
            BadInput: there are pressures without temperatures.
            NotApplicable: no temperature is known.
        """
        if self.pressures_bar and not self.temperatures_K:
            raise BadInput("stability: pressures_bar needs temperatures_K beside it; pressure_bar sets one alone")
        if self.temperatures_K and not self.pressures_bar:
            conditions = [(temperature, 0.0) for temperature in self.temperatures_K]
            found = moved(
                self, model, data, context, conditions=conditions, fixed_cell=True, purpose="nvt", is_whole=True
            )
        else:
            conditions = [(t, p) for t in self.temperatures_K for p in self.pressures_bar]
            found = moved(self, model, data, context, conditions=conditions, is_whole=True)
        common = replace(found, tracks=tuple(until(track, compared_ps(self)) for track in found.tracks))
        whole, counted = ends(self, found), self._reviewed(common, ends(self, common), context)
        return {
            "temperature": np.array([one.temperature_K for one in found.replicas]),
            "pressure": np.array([one.pressure_bar or 0.0 for one in found.replicas]),
            "has_pressure": np.array([one.pressure_bar is not None for one in found.replicas]),
            "ended_whole": whole["ended"],
            "failure_whole": whole["failure"],
            **counted,
        }

    def _reviewed(self, found: Moved, seen: dict[str, Float | Int], context: Context) -> dict[str, Float | Int]:
        """Let the oracle look at the last frame of those in which nothing was found."""
        if not self.oracle:
            return seen
        try:
            oracle = load(read_model(self.oracle).spec, device="cpu")
        except MissingPackage as error:
            context.progress(1, 1, f"no oracle: {error}")
            return {**seen, "n_reviewed": np.array(0)}
        failure, reviewed = seen["failure"].copy(), np.flatnonzero(seen["failure"] < 0)
        for k in reviewed:
            if disagrees(oracle, found.replicas[k].atoms, found.tracks[k]):
                failure[k] = KINDS.index("oracle disagrees")
        return {**seen, "failure": failure, "n_reviewed": np.array(len(reviewed))}

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the names of what any frames allow."""
        return ("survival", "failure_rate", "failure_rate_bound", "compared_length")

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Count who lasted: of all, and of each temperature and pressure."""
        names = conditions_of(seen)
        values = _values(seen, np.arange(len(names)), "")
        values.append(MetricValue(metric="compared_length", value=compared_ps(self), n=len(names)))
        if float(seen["ended_whole"].max()) > compared_ps(self) + ROUNDING_PS:
            values.append(_share("survival_to_end", seen["failure_whole"], np.arange(len(names)), ""))
        if len(set(names)) > 1:
            for name in dict.fromkeys(names):
                chosen = np.flatnonzero(np.array(names) == name)
                values += [one for one in _values(seen, chosen, f"state={name}") if one.metric != "failure_rate_bound"]
        return tuple(values)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show survival over time, and every trajectory with what ended it."""
        names = conditions_of(seen)
        ended, failure = seen["ended_whole"], np.where(seen["failure"] >= 0, seen["failure"], seen["failure_whole"])
        ended = np.where(seen["failure"] >= 0, np.minimum(seen["ended"], ended), ended)
        grid = np.linspace(0.0, float(ended.max()), N_SHOWN)
        curves = {"all": np.arange(len(names))}
        if len(set(names)) > 1:
            curves |= {name: np.flatnonzero(np.array(names) == name) for name in dict.fromkeys(names)}
        shares = []
        for chosen in curves.values():
            curve = kaplan_meier(ended[chosen], failure[chosen] >= 0)
            shares.append(curve.share[np.searchsorted(curve.time, grid, side="right") - 1])
        labels = [
            f"{name}, {k + 1}" + (f": {KINDS[kind]}" if kind >= 0 else "")
            for k, (name, kind) in enumerate(zip(names, failure.tolist(), strict=True))
        ]
        return (
            Lines(
                title=f"Survival; {compared_ps(self):g} ps count",
                x_axis=Axis(quantity="time", unit="ps"),
                y_axis=Axis(quantity="share still well"),
                names=tuple(curves),
                x=grid,
                y=np.array(shares),
            ),
            Bars(
                title="How long each trajectory lasted, and what ended it",
                axis=Axis(quantity="time", unit="ps"),
                labels=tuple(labels),
                values=ended,
                low=ended,
                high=ended,
            ),
        )


def disagrees(oracle: Model, start: Atoms, track: Track) -> bool:
    """Does another model find the last frame impossible: no answer, a huge force, an energy far above the start's?"""
    last = start.copy()
    last.positions = track.positions[-1].astype(np.float64)
    if last.pbc.any():
        last.cell.array[:] = track.cells[-1]
    try:
        said = oracle.predict([start, last])
    except ModelFailure:
        return True
    force = float(np.linalg.norm(said.forces[len(start) :], axis=1).max())
    rise = float(said.energy[1] - said.energy[0]) / len(start)
    return force > ORACLE_FORCE_EV_A or rise > ORACLE_RISE_EV


def conditions_of(seen: Observation) -> list[str]:
    """Return what people call the temperature and pressure of each trajectory."""
    return [
        f"{temperature:g} K" + (f", {pressure:g} bar" if has else "")
        for temperature, pressure, has in zip(
            seen["temperature"].tolist(), seen["pressure"].tolist(), seen["has_pressure"].tolist(), strict=True
        )
    ]


def _values(seen: Observation, chosen: Int, part: str) -> list[MetricValue]:
    """Return the values of some trajectories."""
    failed = (seen["failure"][chosen] >= 0).astype(np.float64)
    time_ns = np.maximum(seen["ended"][chosen], LEAST_PS) / PS_PER_NS
    low, high = poisson_rate(int(failed.sum()), float(time_ns.sum()))[1:]
    units = [f"trajectory {k}" for k in chosen]
    rate = measure(DEFINED["failure_rate"], np.column_stack([failed, time_ns]), units, RATE, part=part)
    return [
        _share("survival", seen["failure"], chosen, part),
        replace(rate, low=low, high=high),
        MetricValue(metric="failure_rate_bound", part=part, value=high, n=len(chosen)),
    ]


def _share(name: str, failure: Int, chosen: Int, part: str) -> MetricValue:
    """Return the share of trajectories that did not fail."""
    alive = (failure[chosen] < 0).astype(np.float64)
    low, high = clopper_pearson(int(alive.sum()), len(chosen))
    rows, units = np.column_stack([alive, np.ones(len(chosen))]), [f"trajectory {k}" for k in chosen]
    return replace(measure(DEFINED[name], rows, units, SHARE, part=part), low=low, high=high)
