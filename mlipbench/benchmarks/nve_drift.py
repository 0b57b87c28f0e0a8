"""Does the energy stay where it is when nothing but the model's forces acts?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.endings import refuse_ended
from mlipbench.benchmarks.lengths import reach_of, sizes
from mlipbench.benchmarks.motion import Motion, compared_ps, duration_ps, moved
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.dynamics import Schedule
from mlipbench.core.measure import measure
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.physics.timeseries import Trend, smallest_detectable, trend
from mlipbench.units import MEV_PER_EV

METRICS: Final = (
    Metric(
        name="energy_drift", title="NVE drift", unit="meV/atom/ps", better="lower", good=0.01, bad=10.0,
        log_scale=True, headline=True, lowest=0.0,
        says="root mean square over trajectories of the slopes of lines through the total energy per atom, at constant"
        " energy and volume, without what swings beside the line give; interval over trajectories",
    ),
    Metric(
        name="mean_drift", title="Mean NVE drift", unit="meV/atom/ps", better="lower", good=0.01, bad=10.0,
        log_scale=True, role="diagnostic", lowest=0.0,
        says="size of the mean of these slopes, in which those of other signs cancel; interval over trajectories, with"
        " Student's t",
    ),
    Metric(
        name="drift_noise", title="NVE drift from swings", unit="meV/atom/ps", better="lower", good=0.01, bad=10.0,
        log_scale=True, role="diagnostic", lowest=0.0,
        says="root mean square of the slopes that the swings beside the lines give alone; no interval",
    ),
    Metric(
        name="energy_fluctuation", title="NVE fluctuation", unit="meV/atom", better="lower", good=0.1, bad=10.0,
        log_scale=True, role="diagnostic", lowest=0.0,
        says="root mean square distance of the total energy per atom from that line; interval over trajectories",
    ),
    Metric(
        name="drift_resolution", title="Smallest mean drift seen", unit="meV/atom/ps", better="lower", good=0.01,
        bad=10.0, log_scale=True, role="diagnostic", lowest=0.0,
        says="smallest mean drift that this run would have told from none, with a power of 80 % at 5 %, by the"
        " non-central t of the interval's degrees of freedom; no interval",
    ),
)  # fmt: skip
SAMPLE_FS: Final = 4.0  # the energy swings with twice the frequency of bonds, and must not look like noise
LEAST_SAMPLES: Final = 50
DEFINED: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class NveDrift(Motion):
    """Velocity Verlet from frames of the data; the slope of the total energy is what forces leak.

    The time step is the model's test as much as the integrator's: with a smooth potential the slope vanishes although
    the energy fluctuates with the square of the step. Velocities are drawn at the temperature, and the driver is
    always ours.
    """

    about: ClassVar[About] = About(
        name="nve_drift",
        title="Energy conservation",
        question="Does the energy stay where it is when nothing but the model's forces acts?",
        metrics=METRICS,
        observe_version=3,
        score_version=2,
        source="slope of the total energy of velocity-Verlet trajectories, with Hann's weights; D. Frenkel & B. Smit,"
        " Understanding Molecular Simulation (2002), chapter 4",
        seconds=60.0,
    )

    n_replicas: int = 2
    duration_ps: float = 1.0
    timestep_fs: float = 1.0

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run velocity Verlet and keep the total energies.

        Raises:
            ModelFailure: a trajectory ended early, or its molecules came apart.
            NotApplicable: no temperature is known.
        """
        n_steps = round(1e3 * duration_ps(self, model) / self.timestep_fs)
        every = max(1, round(min(SAMPLE_FS, 1e3 * compared_ps(self) / LEAST_SAMPLES) / self.timestep_fs))
        plan = Schedule(
            n_steps=n_steps,
            thermostat="none",
            sample_every=every,
            frame_every=max(1, n_steps),
            samples_pressure=False,
        )
        found = moved(self, model, data, context, fixed_cell=True, schedule=plan, purpose="nve")
        refuse_ended(self, found)
        return {
            "time": np.array([track.time_ps for track in found.tracks]),
            "total": np.array([track.potential_eV + track.kinetic_eV for track in found.tracks]),
            "n_atoms": np.array([len(one.atoms) for one in found.replicas]),
        }

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the names of what any frames allow."""
        return tuple(metric.name for metric in METRICS)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Fit a line to each trajectory."""
        trends = _trends(seen)
        slopes, noises, rests = (
            np.array([getattr(one, name) for one in trends]) for name in ("slope", "noise", "rest")
        )
        n, ones = len(slopes), np.ones(len(slopes))
        units = [f"trajectory {k}" for k in range(n)]
        beyond = np.column_stack([np.maximum(slopes**2 - noises**2, 0.0), ones])
        drift, noise = measure(DEFINED["energy_drift"], beyond, units, "root_mean"), float(np.sqrt(np.mean(noises**2)))
        if drift.high is not None:  # where all swings cover the slopes, these are no surer than the swings
            low = None if drift.low is None else max(drift.low, 0.0)
            drift = replace(drift, low=low, high=max(drift.high, reach_of(noise, freedom=n - 1.0)))
        error = float(np.std(slopes, ddof=1) / np.sqrt(n)) if n > 1 else float(abs(slopes[0]))
        mean, _ = sizes(DEFINED["mean_drift"], DEFINED["mean_drift"], float(slopes.mean()), error, noise=0.0, n=n)
        return (
            drift,
            mean,
            MetricValue(metric="drift_noise", value=noise, n=n),
            measure(DEFINED["energy_fluctuation"], np.column_stack([rests**2, ones]), units, "root_mean"),
            MetricValue(metric="drift_resolution", value=smallest_detectable(error, 0.0, freedom=n - 1.0), n=n),
        )

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show how far the total energy is from its start."""
        per_atom = MEV_PER_EV * (seen["total"] - seen["total"][:, :1]) / seen["n_atoms"][:, None]
        return (
            Lines(
                title=f"Total energy in NVE dynamics over {compared_ps(self):g} ps",
                x_axis=Axis(quantity="time", unit="ps"),
                y_axis=Axis(quantity="total energy less that at the start", unit="meV/atom"),
                names=tuple(f"trajectory {k + 1}" for k in range(len(per_atom))),
                x=seen["time"][0],
                y=per_atom,
            ),
        )


def _trends(seen: Observation) -> list[Trend]:
    """Return the lines through the total energies per atom, meV/atom/ps and meV/atom, one for each trajectory."""
    return [
        trend(time, MEV_PER_EV * total / n)
        for time, total, n in zip(seen["time"], seen["total"], seen["n_atoms"].tolist(), strict=True)
    ]
