"""Does the model press on its box as the reference does, at the reference's density?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from scipy.stats import wasserstein_distance

from mlipbench.benchmarks.motion import Motion, distance, moved, named, refuse_failed
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, Bars, Lines, View
from mlipbench.physics.timeseries import TimeMean, mean_over_replicas, smallest_detectable

METRICS: Final = (
    Metric(
        name="pressure_error", title="Pressure error", unit="kbar", better="lower", good=0.3, bad=10.0, log_scale=True,
        headline=True,
        says="size of the mean pressure's deviation from that of the reference's own dynamics in the same cell;"
        " interval over decorrelated samples and over trajectories, the reference's error included",
    ),
    Metric(
        name="pressure_shift", title="Pressure shift", unit="kbar", better="lower", good=0.3, bad=10.0, log_scale=True,
        says="Wasserstein's distance of the distributions of the instantaneous pressure of molecules; no interval",
    ),
    Metric(
        name="pressure_resolution", title="Smallest pressure error seen", unit="kbar", better="lower", good=0.3,
        bad=10.0, log_scale=True,
        says="smallest deviation that this run would have told from none, with a power of 80 % at 5 %; no interval",
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
        observe_version=1,
        score_version=1,
        source="molecular virial, M. P. Allen & D. J. Tildesley, Computer Simulation of Liquids (2017), section 2.4",
        seconds=120.0,
    )

    friction_per_ps: float = 0.1

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run the dynamics and keep the pressures.

        Raises:
            ModelFailure: a trajectory ended early.
            NotApplicable: there is no reference pressure, or no temperature.
        """
        named(data, "pressure_series")
        found = moved(self, model, data, context, fixed_cell=True, purpose="nvt")
        refuse_failed(found)
        return {
            "time": np.array([track.time_ps for track in found.tracks]),
            "pressure": np.array([track.pressure_bar for track in found.tracks]),
        }

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare means and distributions."""
        model, reference, ours, theirs = _compared(seen, data)
        n = len(seen["pressure"])
        return (
            distance(
                DEFINED["pressure_error"], model.mean - reference.mean,
                float(np.hypot(model.stderr, reference.stderr)), n=n, freedom=model.freedom,
            ),
            MetricValue(metric="pressure_shift", value=float(wasserstein_distance(ours, theirs)), n=n),
            MetricValue(
                metric="pressure_resolution", value=smallest_detectable(model.stderr, reference.stderr), n=n
            ),
        )  # fmt: skip

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show means and distributions."""
        model, reference, ours, theirs = _compared(seen, data)
        edges = np.linspace(min(ours.min(), theirs.min()), max(ours.max(), theirs.max()), N_BINS + 1)
        return (
            Bars(
                title="Mean pressure",
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
    model, reference = mean_over_replicas(list(ours)), mean_over_replicas(list(theirs))
    kept = np.concatenate([one[start:] for one, start in zip(ours, model.starts, strict=True)])
    return model, reference, kept, theirs.ravel()
