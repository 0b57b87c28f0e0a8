"""Do atoms vibrate at the reference's frequencies?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.motion import Motion, duration_ps, moved, named, refuse_failed
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.dynamics import Schedule
from mlipbench.core.measure import measure
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput
from mlipbench.physics.spectrum import spectrum_distance, velocity_spectrum

METRICS: Final = (
    Metric(
        name="spectrum_error", title="Spectrum error", unit="%", better="lower", good=2.0, bad=40.0, headline=True,
        says="Wasserstein's distance of the power spectra of mass-weighted velocities, over the standard deviation of"
        " the reference's; mean over trajectories, interval over trajectories",
    ),
    Metric(
        name="spectrum_noise", title="Spectrum error from noise", unit="%", better="lower", good=2.0, bad=40.0,
        says="the same distance of the reference's own trajectories, cut as short, from their mean: the smallest error"
        " that this run can resolve; no interval",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class VelocitySpectrum(Motion):
    """The power spectrum of velocities: intermolecular motion below 200 cm⁻¹, bonds above 700.

    Hydrogen atoms are as heavy here as in the reference's dynamics, which moves their frequencies down by the root of
    the mass; both sides alike.

    Attributes:
        interval_fs: between two frames.
        settling_ps: left out at the start.
    """

    about: ClassVar[About] = About(
        name="velocity_spectrum",
        title="Velocity spectrum",
        question="Do atoms vibrate at the reference's frequencies?",
        metrics=METRICS,
        observe_version=1,
        score_version=1,
        source="P. H. Berens et al., J. Chem. Phys. 79, 2375 (1983); distance as in Matbench Molecular Dynamics",
        seconds=60.0,
    )

    duration_ps: float = 4.0
    friction_per_ps: float = 0.1
    interval_fs: float = 4.0
    settling_ps: float = 0.5

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run the dynamics and keep the spectra.

        Raises:
            BadInput: the interval is no multiple of the time step.
            ModelFailure: a trajectory ended early.
            NotApplicable: there is no reference spectrum, no temperature, or the trajectories are too short for it.
        """
        every = self.interval_fs / self.timestep_fs
        if every < 1.0 or abs(every - round(every)) > 1e-9:
            raise BadInput(
                f"velocity_spectrum: interval_fs = {self.interval_fs} must be a multiple of timestep_fs ="
                f" {self.timestep_fs}"
            )
        edges = named(data, "spectrum_edges")
        n_steps = round(1e3 * (duration_ps(self, model) + self.settling_ps) / self.timestep_fs)
        plan = Schedule(
            n_steps=n_steps, friction_per_ps=self.friction_per_ps, sample_every=max(1, n_steps // 20),
            frame_every=round(every), keeps_velocities=True,
        )  # fmt: skip
        found = moved(self, model, data, context, fixed_cell=True, schedule=plan, purpose="spectrum")
        refuse_failed(found)
        return {
            "spectrum": np.array(
                [
                    velocity_spectrum(
                        track.velocities[track.frame_time_ps >= self.settling_ps].astype(np.float64),
                        one.masses_array(), interval_fs=self.interval_fs, edges_per_cm=edges,
                    )
                    for one, track in zip(found.replicas, found.tracks, strict=True)
                ]
            )
        }  # fmt: skip

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare each trajectory's spectrum with the reference's mean."""
        edges, theirs = named(data, "spectrum_edges"), named(data, "spectrum")
        reference = theirs.mean(axis=0)
        each = np.array([100.0 * spectrum_distance(one, reference, edges) for one in seen["spectrum"]])
        noise = float(np.mean([100.0 * spectrum_distance(one, reference, edges) for one in theirs]))
        rows = np.column_stack([each, np.ones(len(each))])
        return (
            measure(DEFINED["spectrum_error"], rows, [f"trajectory {k}" for k in range(len(each))], "mean"),
            MetricValue(metric="spectrum_noise", value=noise, n=len(theirs)),
        )

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show both spectra."""
        edges = named(data, "spectrum_edges")
        return (
            Lines(
                title="Power spectrum of velocities",
                x_axis=Axis(quantity="wavenumber", unit="cm⁻¹"),
                y_axis=Axis(quantity="power", unit="cm"),
                names=("model", "reference"),
                x=0.5 * (edges[1:] + edges[:-1]),
                y=np.array([seen["spectrum"].mean(axis=0), named(data, "spectrum").mean(axis=0)]),
            ),
        )
