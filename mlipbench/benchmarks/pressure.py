"""Does the model press on its box as the reference does, at the reference's density?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from scipy.stats import wasserstein_distance

from mlipbench.benchmarks.endings import refuse_failed
from mlipbench.benchmarks.lengths import refuse_untold_mean, sizes
from mlipbench.benchmarks.motion import Motion, compared_ps, moved, named
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, Bars, Lines, View
from mlipbench.physics.timeseries import Foreseen, TimeMean, mean_over_replicas, smallest_detectable

METRICS: Final = (
    Metric(
        name="pressure_excess", title="Pressure error beyond noise", unit="kbar", better="lower", good=0.3, bad=10.0,
        log_scale=True, headline=True, lowest=0.0,
        says="√(d² - n²), d the mean pressure's deviation from that of the reference's own dynamics in the same cell, n"
        " what sampling alone gives a perfect model; interval over decorrelated samples and over trajectories, the"
        " reference's error included",
    ),
    Metric(
        name="pressure_error", title="Pressure error", unit="kbar", better="lower", good=0.3, bad=10.0, log_scale=True,
        role="diagnostic", lowest=0.0,
        says="size of that deviation as it was found, noise and all; the same interval",
    ),
    Metric(
        name="pressure_shift", title="Pressure shift", unit="kbar", better="lower", good=0.3, bad=10.0, log_scale=True,
        role="diagnostic", lowest=0.0,
        says="Wasserstein's distance of the distributions of the instantaneous pressure of molecules; no interval",
    ),
    Metric(
        name="pressure_resolution", title="Smallest pressure error seen", unit="kbar", better="lower", good=0.3,
        bad=10.0, log_scale=True, role="diagnostic", lowest=0.0,
        says="smallest deviation that this run would have told from none, with a power of 80 % at 5 %, by the"
        " non-central t of the interval's degrees of freedom; no interval",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
KBAR_PER_BAR: Final = 1e-3
N_BINS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure(Motion):
    """Constant volume at the reference's density: the pressure, whose sign says where the density would go.

    The pressure is that of molecules' centres, so that bonds do not shake it. Needs data with the reference's own
    series, such as the constant-volume state of `ecemc_gaff2_md`.
    """

    about: ClassVar[About] = About(
        name="pressure",
        title="Pressure",
        question="Does the model press on its box as the reference does, at the reference's density?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="molecular virial, M. P. Allen & D. J. Tildesley, Computer Simulation of Liquids (2017), section 2.4",
        seconds=120.0,
    )

    friction_per_ps: float = 0.1

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run the dynamics and keep the pressures.

        Raises:
            ModelFailure: a trajectory went wrong.
            NotApplicable: there is no reference pressure, no temperature, or the trajectories are too short to tell.
        """
        named(data, "pressure_series")
        found = moved(self, model, data, context, fixed_cell=True, purpose="nvt")
        refuse_failed(self, found)
        self.foreseen(data)
        return {
            "time": np.array([track.time_ps for track in found.tracks]),
            "pressure": np.array([track.pressure_bar for track in found.tracks]),
        }

    def foreseen(self, data: Dataset) -> Foreseen:
        """Return what these trajectories are expected to tell.

        Raises:
            NotApplicable: nothing.
        """
        return refuse_untold_mean(
            _reference(data), every_ps=float(named(data, "pressure_every_ps")), n_replicas=self.n_replicas,
            length_ps=compared_ps(self), bad=DEFINED["pressure_excess"].bad, what="pressure",
        )  # fmt: skip

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the names of what these data allow."""
        return tuple(metric.name for metric in METRICS)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare means and distributions."""
        model, reference, ours, theirs = _compared(seen, data)
        n = len(seen["pressure"])
        error, beyond = sizes(
            DEFINED["pressure_error"], DEFINED["pressure_excess"], model.mean - reference.mean,
            float(np.hypot(model.stderr, reference.stderr)),
            noise=float(np.hypot(self.foreseen(data).stderr, reference.stderr)), n=n, freedom=model.freedom,
        )  # fmt: skip
        resolution = smallest_detectable(model.stderr, reference.stderr, freedom=model.freedom)
        return (
            beyond,
            error,
            MetricValue(metric="pressure_shift", value=float(wasserstein_distance(ours, theirs)), n=n),
            MetricValue(metric="pressure_resolution", value=resolution, n=n),
        )

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show means and distributions."""
        model, reference, ours, theirs = _compared(seen, data)
        edges = np.linspace(min(ours.min(), theirs.min()), max(ours.max(), theirs.max()), N_BINS + 1)
        return (
            Bars(
                title=f"Mean pressure over {compared_ps(self):g} ps",
                axis=Axis(quantity="pressure", unit="kbar"),
                labels=("model", "reference's own dynamics"),
                values=np.array([model.mean, reference.mean]),
                low=np.array([model.low, reference.low]),
                high=np.array([model.high, reference.high]),
            ),
            Lines(
                title="Distribution of the pressure",
                x_axis=Axis(quantity="pressure", unit="kbar"),
                y_axis=Axis(quantity="probability density", unit="1/kbar"),
                names=("model", "reference"),
                x=0.5 * (edges[1:] + edges[:-1]),
                y=np.array([np.histogram(one, edges, density=True)[0] for one in (ours, theirs)]),
            ),
        )


def _compared(seen: Observation, data: Dataset) -> tuple[TimeMean, TimeMean, Float, Float]:
    """Return both means and both sets of equilibrated samples, kbar."""
    ours, theirs = KBAR_PER_BAR * seen["pressure"], KBAR_PER_BAR * named(data, "pressure_series")
    model, reference = mean_over_replicas(list(ours)), _reference(data)
    kept = np.concatenate([one[start:] for one, start in zip(ours, model.starts, strict=True)])
    return model, reference, kept, theirs.ravel()


def _reference(data: Dataset) -> TimeMean:
    """Return the mean of the reference's own pressures, kbar."""
    return mean_over_replicas(list(KBAR_PER_BAR * np.asarray(named(data, "pressure_series"), dtype=np.float64)))
