"""Do the model's molecules wander as fast as the reference's?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.motion import Motion, distance, moved, named, refuse_failed
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, Bars, Lines, View
from mlipbench.errors import BadInput
from mlipbench.physics.molecules import renumbered
from mlipbench.physics.timeseries import smallest_detectable
from mlipbench.physics.transport import centres, diffusion, finite_size_correction_cm2_s, mean_square_displacement

METRICS: Final = (
    Metric(
        name="diffusion_error", title="Diffusion error", unit="%", better="lower", good=15.0, bad=150.0, headline=True,
        says="size of the diffusion coefficient's deviation from that of the reference's own dynamics, relative to it,"
        " in the same cell, with the same masses, thermostat and fit; interval over trajectories of both",
    ),
    Metric(
        name="diffusion_resolution", title="Smallest diffusion error seen", unit="%", better="lower", good=15.0,
        bad=150.0,
        says="smallest deviation that this run would have told from none, with a power of 80 % at 5 %; no interval",
    ),
    Metric(
        name="diffusion_exponent_error", title="Distance from diffusive motion", unit="", better="lower", good=0.15,
        bad=0.8,
        says="distance of the slope of the mean square displacement in double logarithms from 1, mean over"
        " trajectories: where it is large, the trajectories are too short for a diffusion coefficient; no interval",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
SCALE: Final = 1e6  # shown in 1e-6 cm²/s


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionCoefficient(Motion):
    """Constant volume and a weak thermostat; the slope of the mean square displacement of molecules' centres.

    Shares its trajectories with `pressure`. Both sides have the same box, so that their finite-size errors are alike;
    where a viscosity is given, the corrected value is shown too.

    Attributes:
        viscosity_mPa_s: of the liquid, for the finite-size correction; None for none.
    """

    about: ClassVar[About] = About(
        name="diffusion",
        title="Diffusion",
        question="Do the model's molecules wander as fast as the reference's?",
        metrics=METRICS,
        observe_version=1,
        score_version=1,
        source="D. Frenkel & B. Smit, Understanding Molecular Simulation (2002), section 4.4; I.-C. Yeh & G. Hummer,"
        " J. Phys. Chem. B 108, 15873 (2004)",
        seconds=120.0,
    )

    friction_per_ps: float = 0.1
    viscosity_mPa_s: float | None = None

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run the dynamics and keep mean square displacements.

        Raises:
            BadInput: the viscosity is not positive.
            ModelFailure: a trajectory ended early.
            NotApplicable: there is no reference, or no temperature.
        """
        if self.viscosity_mPa_s is not None and not self.viscosity_mPa_s > 0.0:
            raise BadInput(f"diffusion: viscosity_mPa_s is {self.viscosity_mPa_s}; it must be positive")
        named(data, "diffusion")
        found = moved(self, model, data, context, fixed_cell=True, purpose="nvt")
        refuse_failed(found)
        displacements = [
            mean_square_displacement(
                centres(track.positions.astype(np.float64), one.masses_array(), renumbered(molecule))
            )
            for one, track, molecule in zip(found.replicas, found.tracks, found.molecules, strict=True)
        ]
        return {
            "time": found.tracks[0].frame_time_ps,
            "displacement": np.array(displacements),
            "temperature": np.array([one.temperature_K for one in found.replicas]),
            "edge": np.array([abs(float(np.linalg.det(one.atoms.cell.array))) ** (1 / 3) for one in found.replicas]),
        }

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare the slopes."""
        ours, theirs = _coefficients(seen), named(data, "diffusion")
        reference = float(theirs.mean())
        error, other = (100.0 * _stderr(one) / reference for one in (ours, theirs))
        exponents = [diffusion(one, seen["time"]).exponent for one in seen["displacement"]]
        n = len(ours)
        return (
            distance(
                DEFINED["diffusion_error"], 100.0 * (float(ours.mean()) / reference - 1.0),
                float(np.hypot(error, other)), n=n,
            ),
            MetricValue(metric="diffusion_resolution", value=smallest_detectable(error, other), n=n),
            MetricValue(
                metric="diffusion_exponent_error", value=float(np.mean(np.abs(np.array(exponents) - 1.0))), n=n
            ),
        )  # fmt: skip

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the coefficients, and the displacements."""
        labelled = {"model": _coefficients(seen), "reference's own dynamics": named(data, "diffusion")}
        if self.viscosity_mPa_s is not None:
            more = finite_size_correction_cm2_s(
                temperature_K=float(seen["temperature"][0]), edge_A=float(seen["edge"][0]),
                viscosity_mPa_s=self.viscosity_mPa_s,
            )  # fmt: skip
            labelled |= {f"{name}, infinite box": one + more for name, one in list(labelled.items())}
        means = SCALE * np.array([one.mean() for one in labelled.values()])
        errors = SCALE * np.array([_stderr(one) for one in labelled.values()])
        return (
            Bars(
                title="Diffusion coefficient",
                axis=Axis(quantity="diffusion coefficient", unit="1e-6 cm²/s"),
                labels=tuple(labelled),
                values=means,
                low=means - 2.0 * errors,
                high=means + 2.0 * errors,
            ),
            Lines(
                title="Mean square displacement of molecules",
                x_axis=Axis(quantity="time", unit="ps"),
                y_axis=Axis(quantity="mean square displacement", unit="Å²"),
                names=tuple(f"trajectory {k + 1}" for k in range(len(seen["displacement"]))),
                x=seen["time"],
                y=seen["displacement"],
            ),
        )


def _coefficients(seen: Observation) -> Float:
    """Return the diffusion coefficient of each trajectory, cm²/s."""
    return np.array([diffusion(one, seen["time"]).value_cm2_s for one in seen["displacement"]])


def _stderr(values: Float) -> float:
    """Return the standard error over trajectories; of a single one, its size."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else abs(float(values[0]))
