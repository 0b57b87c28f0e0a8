"""Do atoms vibrate at the reference's frequencies?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.endings import refuse_failed
from mlipbench.benchmarks.lengths import around, excess
from mlipbench.benchmarks.motion import Motion, compared_ps, duration_ps, moved, named
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.dynamics import Schedule
from mlipbench.core.measure import measure
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput
from mlipbench.physics.spectrum import spectrum_distance, velocity_spectrum

METRICS: Final = (
    Metric(
        name="spectrum_excess", title="Spectrum error beyond noise", unit="%", better="lower", good=2.0, bad=40.0,
        headline=True, lowest=0.0,
        says="√(d² - n²), d the spectrum error, n what sampling alone gives a perfect model; interval likewise",
    ),
    Metric(
        name="spectrum_error", title="Spectrum error", unit="%", better="lower", good=2.0, bad=40.0, role="diagnostic",
        lowest=0.0,
        says="Wasserstein's distance of the mean power spectrum of mass-weighted velocities from the reference's, over"
        " the standard deviation of the reference's; interval over trajectories",
    ),
    Metric(
        name="spectrum_noise", title="Spectrum error from noise", unit="%", better="lower", good=2.0, bad=40.0,
        role="diagnostic", lowest=0.0,
        says="the same distance that so many trajectories of the reference, as long, have from its mean; no interval",
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
        observe_version=2,
        score_version=2,
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
            ModelFailure: a trajectory went wrong.
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
        found = moved(
            self, model, data, context, fixed_cell=True, schedule=plan, purpose="spectrum", settling_ps=self.settling_ps
        )
        refuse_failed(self, found)
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

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the names of what these data allow."""
        return tuple(metric.name for metric in METRICS)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare the mean spectrum with the reference's."""
        edges, theirs = named(data, "spectrum_edges"), named(data, "spectrum")
        reference = theirs.mean(axis=0)

        def away(one: Float, other: Float) -> float:
            return 100.0 * spectrum_distance(one, other, edges)

        n = len(seen["spectrum"])
        together = away(seen["spectrum"].mean(axis=0), reference)
        rows = np.array([[away(one, reference), 1.0] for one in seen["spectrum"]])
        spread = measure(DEFINED["spectrum_error"], rows, [f"trajectory {k}" for k in range(n)], "mean")
        error = around(together, spread)
        pieces = compared_ps(self) / float(named(data, "spectrum_piece_ps"))
        noise = 100.0 * expected_noise(theirs, edges, n=n * pieces)
        low = None if error.low is None else excess(error.low, noise)
        return (
            replace(error, metric="spectrum_excess", value=excess(together, noise), low=low),
            error,
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


def expected_noise(spectra: Float, edges_per_cm: Float, *, n: float) -> float:
    """Return the distance of the mean of so many pieces from the mean of all of the reference's.

    Each piece's distance from the mean of the others has the noise of 1 + 1/(N - 1) pieces; that of two independent
    means has 1/n + 1/N, and such a distance grows with the noise's standard deviation.

    Args:
        spectra: shape (N, n_bins), of the reference's pieces, two or more for any noise.
        edges_per_cm: of the bins.
        n: pieces that the run is worth.
    """
    total = len(spectra)
    if total < 2:
        return 0.0
    whole = spectra.sum(axis=0)
    each = [spectrum_distance(one, (whole - one) / (total - 1), edges_per_cm) for one in spectra]
    return float(np.mean(each) * np.sqrt((1.0 / n + 1.0 / total) / (1.0 + 1.0 / (total - 1))))
