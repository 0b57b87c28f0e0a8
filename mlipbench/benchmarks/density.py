"""How dense is the model's liquid, and is that the reference's density?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.endings import refuse_failed
from mlipbench.benchmarks.lengths import refuse_untold_mean, sizes
from mlipbench.benchmarks.motion import Motion, compared_ps, moved, named
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, Bars, Lines, View
from mlipbench.errors import NotApplicable
from mlipbench.physics.timeseries import Foreseen, TimeMean, mean_over_replicas, smallest_detectable
from mlipbench.units import GRAM_PER_CUBIC_CM_PER_U_PER_CUBIC_ANGSTROM

METRICS: Final = (
    Metric(
        name="density_excess", title="Density error beyond noise", unit="%", better="lower", good=1.0, bad=15.0,
        headline=True, lowest=0.0,
        says="√(d² - n²), d the deviation of the mean density from that of the reference's own dynamics at the same"
        " temperature, pressure, composition and size, n what sampling alone gives a perfect model; interval over"
        " decorrelated samples of the equilibrated parts and over trajectories, the reference's error included",
    ),
    Metric(
        name="density_error", title="Density error", unit="%", better="lower", good=1.0, bad=15.0, role="diagnostic",
        lowest=0.0, says="size of that deviation as it was found, noise and all; the same interval",
    ),
    Metric(
        name="density_deviations", title="Density deviation", unit="σ", better="lower", good=3.0, bad=30.0,
        role="diagnostic", lowest=0.0,
        says="the same in combined standard errors of model and reference; no interval",
    ),
    Metric(
        name="density_resolution", title="Smallest density error seen", unit="%", better="lower", good=1.0, bad=15.0,
        role="diagnostic", lowest=0.0,
        says="smallest deviation that this run would have told from none, with a power of 80 % at 5 %, by the"
        " non-central t of the interval's degrees of freedom; no interval",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
SHOWN_POINTS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Density(Motion):
    """Constant temperature and pressure from frames of the data, against the reference's own mean density.

    Each trajectory's approach to equilibrium is found and left out, and correlated samples are counted as what they
    are worth. Needs data with the reference's own density, such as `ecemc_gaff2_md`, and trajectories that are long
    enough by the reference's own correlation time; shorter ones are skipped, with the length that would do.
    """

    about: ClassVar[About] = About(
        name="density",
        title="Density",
        question="How dense is the model's liquid, and is that the reference's density?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="J. D. Chodera, J. Chem. Theory Comput. 12, 1799 (2016), for equilibration and statistical inefficiency",
        seconds=120.0,
    )

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run the dynamics and keep the densities.

        Raises:
            ModelFailure: a trajectory went wrong.
            NotApplicable: there is no reference density, no temperature or no pressure, or the trajectories are too
                short to tell.
        """
        named(data, "density_series")
        found = moved(self, model, data, context)
        if any(one.pressure_bar is None for one in found.replicas):
            raise NotApplicable("the density needs a pressure; set pressure_bar in the row's parameters")
        refuse_failed(self, found)
        self.foreseen(data)
        return {
            "time": np.array([track.time_ps for track in found.tracks]),
            "density": GRAM_PER_CUBIC_CM_PER_U_PER_CUBIC_ANGSTROM
            * found.mass_u[:, None]
            / np.array([track.volume_A3 for track in found.tracks]),
            "is_own_engine": np.array(found.is_own),
        }  # fmt: skip

    def foreseen(self, data: Dataset) -> Foreseen:
        """Return what these trajectories are expected to tell.

        Raises:
            NotApplicable: nothing.
        """
        reference = _reference(data)
        return refuse_untold_mean(
            reference, every_ps=float(named(data, "density_every_ps")), n_replicas=self.n_replicas,
            length_ps=compared_ps(self), bad=0.01 * DEFINED["density_excess"].bad * reference.mean, what="density",
        )  # fmt: skip

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the names of what these data allow."""
        return tuple(metric.name for metric in METRICS)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare the means."""
        model, reference = _means(seen, data)
        percent = 100.0 / reference.mean
        difference, n = percent * (model.mean - reference.mean), len(seen["density"])
        ours, theirs = percent * model.stderr, percent * reference.stderr
        noise = percent * float(np.hypot(self.foreseen(data).stderr, reference.stderr))
        error, beyond = sizes(
            DEFINED["density_error"], DEFINED["density_excess"], difference, float(np.hypot(ours, theirs)), noise=noise,
            n=n, freedom=model.freedom,
        )  # fmt: skip
        resolution = smallest_detectable(ours, theirs, freedom=model.freedom)
        return (
            beyond,
            error,
            MetricValue(metric="density_deviations", value=abs(difference) / float(np.hypot(ours, theirs)), n=n),
            MetricValue(metric="density_resolution", value=resolution, n=n),
        )

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the means beside each other, and each trajectory."""
        model, reference = _means(seen, data)
        every = max(1, seen["density"].shape[1] // SHOWN_POINTS)
        series = seen["density"][:, ::every]
        flat = np.full((1, series.shape[1]), reference.mean)
        own = " (driven by its own engine)" if bool(seen["is_own_engine"]) else ""
        context = _context(data)
        return (
            Bars(
                title="Density",
                axis=Axis(quantity="density", unit="g/cm³"),
                labels=(f"model{own}", "reference's own dynamics", *context),
                values=np.array([model.mean, reference.mean, *context.values()]),
                low=np.array([model.low, reference.low, *context.values()]),
                high=np.array([model.high, reference.high, *context.values()]),
            ),
            Lines(
                title=f"Density over {compared_ps(self):g} ps",
                x_axis=Axis(quantity="time", unit="ps"),
                y_axis=Axis(quantity="density", unit="g/cm³"),
                names=(*(f"trajectory {k + 1}" for k in range(len(series))), "reference's mean"),
                x=seen["time"][0][::every],
                y=np.concatenate([series, flat]),
            ),
        )


def _means(seen: Observation, data: Dataset) -> tuple[TimeMean, TimeMean]:
    """Return the model's mean density and the reference's."""
    return mean_over_replicas(list(seen["density"])), _reference(data)


def _reference(data: Dataset) -> TimeMean:
    """Return the mean of the reference's own densities."""
    return mean_over_replicas(list(np.asarray(named(data, "density_series"), dtype=np.float64)))


def _context(data: Dataset) -> dict[str, float]:
    """Return densities from elsewhere, which no error refers to, by what they are."""
    state = data.config_type[0]
    known: dict[str, Float] = {
        name.removeprefix(f"{state}/context/"): value
        for name, value in data.observables.items()
        if name.startswith(f"{state}/context/")
    }
    return {f"context: {name}": float(value) for name, value in known.items()}
