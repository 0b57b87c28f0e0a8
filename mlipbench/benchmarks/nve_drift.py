"""Does the energy stay where it is when nothing but the model's forces acts?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.motion import SAMPLE_PS, Motion, distance, duration_ps, moved, refuse_failed
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.dynamics import Schedule
from mlipbench.core.measure import measure
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.physics.timeseries import smallest_detectable
from mlipbench.units import MEV_PER_EV

METRICS: Final = (
    Metric(
        name="energy_drift", title="NVE drift", unit="meV/atom/ps", better="lower", good=0.01, bad=10.0,
        log_scale=True, headline=True,
        says="size of the mean slope of lines through the total energy per atom, at constant energy and volume;"
        " interval over trajectories, with Student's t",
    ),
    Metric(
        name="energy_fluctuation", title="NVE fluctuation", unit="meV/atom", better="lower", good=0.1, bad=10.0,
        log_scale=True,
        says="root mean square distance of the total energy per atom from that line; interval over trajectories",
    ),
    Metric(
        name="drift_resolution", title="Smallest drift seen", unit="meV/atom/ps", better="lower", good=0.01, bad=10.0,
        log_scale=True,
        says="smallest mean drift that this run would have told from none, with a power of 80 % at 5 %; no interval",
    ),
)  # fmt: skip
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
        observe_version=1,
        score_version=1,
        source="least-squares slope of the total energy of velocity-Verlet trajectories; D. Frenkel & B. Smit,"
        " Understanding Molecular Simulation (2002), chapter 4",
        seconds=60.0,
    )

    n_replicas: int = 2
    duration_ps: float = 1.0
    timestep_fs: float = 1.0

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run velocity Verlet and keep the total energies.

        Raises:
            ModelFailure: a trajectory ended early.
            NotApplicable: no temperature is known.
        """
        n_steps = round(1e3 * duration_ps(self, model) / self.timestep_fs)
        every = max(1, round(min(1e3 * SAMPLE_PS / self.timestep_fs, n_steps / 50)))
        plan = Schedule(
            n_steps=n_steps,
            thermostat="none",
            sample_every=every,
            frame_every=max(1, n_steps),
            samples_pressure=False,
        )
        found = moved(self, model, data, context, fixed_cell=True, schedule=plan, purpose="nve")
        refuse_failed(found)
        return {
            "time": np.array([track.time_ps for track in found.tracks]),
            "total": np.array([track.potential_eV + track.kinetic_eV for track in found.tracks]),
            "n_atoms": np.array([len(one.atoms) for one in found.replicas]),
        }

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Fit a line to each trajectory."""
        slopes, rests = _fitted(seen)
        units = [f"trajectory {k}" for k in range(len(slopes))]
        ones = np.ones(len(slopes))
        noise = float(np.std(slopes, ddof=1) / np.sqrt(len(slopes))) if len(slopes) > 1 else float(abs(slopes[0]))
        return (
            distance(DEFINED["energy_drift"], float(slopes.mean()), noise, n=len(slopes)),
            measure(DEFINED["energy_fluctuation"], np.column_stack([rests**2, ones]), units, "root_mean"),
            MetricValue(metric="drift_resolution", value=smallest_detectable(noise, 0.0), n=len(slopes)),
        )

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show how far the total energy is from its start."""
        per_atom = MEV_PER_EV * (seen["total"] - seen["total"][:, :1]) / seen["n_atoms"][:, None]
        return (
            Lines(
                title="Total energy in NVE dynamics",
                x_axis=Axis(quantity="time", unit="ps"),
                y_axis=Axis(quantity="total energy less that at the start", unit="meV/atom"),
                names=tuple(f"trajectory {k + 1}" for k in range(len(per_atom))),
                x=seen["time"][0],
                y=per_atom,
            ),
        )


def _fitted(seen: Observation) -> tuple[Float, Float]:
    """Return slopes in meV/atom/ps and root mean square rests in meV/atom, shape (n_trajectories,) each."""
    slopes, rests = [], []
    for time, total, n in zip(seen["time"], seen["total"], seen["n_atoms"], strict=True):
        per_atom = MEV_PER_EV * total / n
        line = np.polynomial.Polynomial.fit(time, per_atom, 1).convert().coef
        slope = float(line[1]) if len(line) > 1 else 0.0
        slopes.append(slope)
        rests.append(float(np.sqrt(np.mean((per_atom - np.polynomial.Polynomial(line)(time)) ** 2))))
    return np.array(slopes), np.array(rests)
