"""Do the model's molecules wander as fast as the reference's?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.endings import refuse_failed
from mlipbench.benchmarks.lengths import needed_ps, refuse_short, sizes
from mlipbench.benchmarks.motion import FRAME_PS, Motion, compared_ps, moved, named, prepared
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.dynamics import Replica, Track
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model
from mlipbench.core.view import Axis, Bars, Lines, View
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.molecules import renumbered
from mlipbench.physics.timeseries import smallest_detectable
from mlipbench.physics.transport import (
    FIT_FROM,
    FIT_TO,
    centres,
    diffusion,
    displacement_of_kinds,
    finite_size_correction_cm2_s,
)

METRICS: Final = (
    Metric(
        name="diffusion_excess", title="Diffusion error beyond noise", unit="%", better="lower", good=15.0, bad=150.0,
        headline=True, lowest=0.0,
        says="√(d² - n²), d the deviation of the diffusion coefficient from that of the reference's own dynamics,"
        " relative to it, in the same cell, with the same masses, thermostat and window of lags, n what sampling alone"
        " gives a perfect model; mean over kinds of molecules, interval over trajectories of both",
    ),
    Metric(
        name="diffusion_error", title="Diffusion error", unit="%", better="lower", good=15.0, bad=150.0,
        role="diagnostic", lowest=0.0,
        says="size of that deviation as it was found, noise and all; the same mean and interval",
    ),
    Metric(
        name="diffusion_resolution", title="Smallest diffusion error seen", unit="%", better="lower", good=15.0,
        bad=150.0, role="diagnostic", lowest=0.0,
        says="smallest deviation that this run would have told from none, with a power of 80 % at 5 %, by the"
        " non-central t of the interval's degrees of freedom; mean over kinds of molecules, no interval",
    ),
    Metric(
        name="diffusion_exponent_error", title="Distance from diffusive motion", unit="", better="lower", good=0.15,
        bad=0.8, role="diagnostic", lowest=0.0,
        says="distance of the slope of the mean square displacement in double logarithms from 1, mean over"
        " trajectories: where it is large, molecules still rattle or fly; no interval",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
LEAST_LAGS: Final = 4
MOST_BENT: Final = 0.3  # distance of an exponent from 1, above which motion is not diffusive
SCALE: Final = 1e6  # shown in 1e-6 cm²/s


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionCoefficient(Motion):
    """Constant volume and a weak thermostat; the slope of the mean square displacement of molecules' centres.

    Shares its trajectories with `pressure`. Both sides are fitted over the same lags, those of the shorter one, and
    each kind of molecule on its own. Both have the same box, so that their finite-size errors are alike; where a
    viscosity is given, the corrected value is shown too.

    Attributes:
        viscosity_mPa_s: of the liquid, for the finite-size correction; None for none.
    """

    about: ClassVar[About] = About(
        name="diffusion",
        title="Diffusion",
        question="Do the model's molecules wander as fast as the reference's?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
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
            ModelFailure: a trajectory went wrong.
            NotApplicable: there is no reference, no temperature, or the trajectories are too short to tell.
        """
        if self.viscosity_mPa_s is not None and not self.viscosity_mPa_s > 0.0:
            raise BadInput(f"diffusion: viscosity_mPa_s is {self.viscosity_mPa_s}; it must be positive")
        self._names(data)
        found = moved(self, model, data, context, fixed_cell=True, purpose="nvt")
        refuse_failed(self, found)
        self._refuse_short(data)
        return {
            "time": found.tracks[0].frame_time_ps,
            "displacement": np.array([_displacements(*one) for one in zip(
                found.replicas, found.tracks, found.molecules, strict=True
            )]),
            "temperature": np.array([one.temperature_K for one in found.replicas]),
            "edge": np.array([abs(float(np.linalg.det(one.atoms.cell.array))) ** (1 / 3) for one in found.replicas]),
        }  # fmt: skip

    def _refuse_short(self, data: Dataset) -> None:
        """Raise when such trajectories of the reference would not be diffusive, or too few to tell."""
        times_ps, length_ps = named(data, "displacement_times"), compared_ps(self)
        longest_ps = float(times_ps[-1])
        # Three lags of either side must lie between a tenth and a half of the length.
        least_ps = LEAST_LAGS * max(FRAME_PS, float(times_ps[1])) / (FIT_TO - FIT_FROM)

        def tells(length: float) -> bool:
            bent = abs(_mean_exponent(data, min(length, longest_ps)) - 1.0)
            return bent <= MOST_BENT and self._foreseen(data, length)[1] <= DEFINED["diffusion_excess"].bad

        why = f"a slope needs {LEAST_LAGS} lags"
        if length_ps >= least_ps:
            exponent, told = _mean_exponent(data, min(length_ps, longest_ps)), self._foreseen(data, length_ps)[1]
            why = (
                f"the reference's motion over such lags has exponent {exponent:.2f}, and {self.n_replicas} such"
                f" trajectories tell deviations of {told:.0f} %"
            )
        if length_ps < least_ps or not tells(length_ps):
            enough_ps = needed_ps(tells, least_ps=max(length_ps, least_ps))
            refuse_short(length_ps, enough_ps, what="diffusion", why=why)

    def _names(self, data: Dataset) -> tuple[str, ...]:
        """Return the formulas of the kinds of molecules.

        Raises:
            NotApplicable: the reference has others.
        """
        names = _kinds(data.frames[0].get_chemical_symbols(), prepared(data, 0, self)[1])[1]
        n = named(data, "displacement").shape[1] - 1
        if n != len(names):
            raise NotApplicable(
                f"the reference's displacements are of {n} kinds of molecules, the frames of {len(names)}"
            )
        return names

    def _foreseen(self, data: Dataset, length_ps: float) -> tuple[Float, float]:
        """Return the noise of each kind and the mean resolution of a perfect model, %, by the reference's spread."""
        longest_ps = float(named(data, "displacement_times")[-1])
        theirs = _reference(data, min(length_ps, longest_ps))[:, 1:]
        percent = 100.0 / theirs.mean(axis=0)
        spread = percent * theirs.std(axis=0, ddof=1) if len(theirs) > 1 else np.full(theirs.shape[1], 100.0)
        # The longer a trajectory, the less it differs from another.
        ours = spread * np.sqrt(longest_ps / length_ps / self.n_replicas)
        noise: Float = np.hypot(ours, spread / np.sqrt(len(theirs)))
        resolutions = [smallest_detectable(one, 0.0, freedom=self.n_replicas - 1.0) for one in noise.tolist()]
        return noise, float(np.mean(resolutions))

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the names of what these data allow."""
        return tuple(metric.name for metric in METRICS)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare the slopes of each kind of molecule, and of all."""
        length_ps = _common_ps(seen, data)
        ours, theirs = _coefficients(seen["displacement"], seen["time"], length_ps), _reference(data, length_ps)
        percent = 100.0 / theirs.mean(axis=0)
        differences = percent * ours.mean(axis=0) - 100.0
        errors = np.array([
            percent[k] * np.hypot(_stderr(ours[:, k]), _stderr(theirs[:, k])) for k in range(len(percent))
        ])
        noise = self._foreseen(data, compared_ps(self))[0]
        n, freedom = len(ours), float(len(ours) - 1)
        values = [
            sizes(
                DEFINED["diffusion_error"],
                DEFINED["diffusion_excess"],
                differences[k + 1],
                errors[k + 1],
                noise=noise[k],
                n=n,
                part=f"molecule={name}",
            )
            for k, name in enumerate(self._names(data))
        ]
        exponents = [diffusion(one[0], seen["time"], length_ps=length_ps).exponent for one in seen["displacement"]]
        resolutions = [smallest_detectable(one, 0.0, freedom=freedom) for one in errors[1:].tolist()]
        return (
            _over_kinds([beyond for _, beyond in values]),
            _over_kinds([error for error, _ in values]),
            *(one for pair in values for one in pair),
            MetricValue(
                metric="diffusion_error", part="molecule=all", value=abs(float(differences[0])), n=n
            ),
            MetricValue(metric="diffusion_resolution", value=float(np.mean(resolutions)), n=n),
            MetricValue(
                metric="diffusion_exponent_error", value=float(np.mean(np.abs(np.array(exponents) - 1.0))), n=n
            ),
        )  # fmt: skip

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the coefficients, and the displacements."""
        length_ps = _common_ps(seen, data)
        sides = {
            "model": _coefficients(seen["displacement"], seen["time"], length_ps),
            "reference's own dynamics": _reference(data, length_ps),
        }
        names = ("all", *self._names(data))
        labelled = {f"{kind}: {side}": one[:, k] for k, kind in enumerate(names) for side, one in sides.items()}
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
                title=f"Diffusion coefficient, lags of {FIT_FROM * length_ps:g} to {FIT_TO * length_ps:g} ps",
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
                names=(*(f"trajectory {k + 1}" for k in range(len(seen["displacement"]))), "reference"),
                x=seen["time"],
                y=np.array([*seen["displacement"][:, 0], _reference_curve(seen, data)]),
            ),
        )


def _kinds(symbols: Sequence[str], molecule: Int) -> tuple[Int, tuple[str, ...]]:
    """Return the kind of each molecule by its formula, kinds in the order of formulas."""
    from ase.formula import Formula

    numbers = renumbered(molecule)
    formulas = [
        Formula.from_list([symbols[i] for i in np.flatnonzero(numbers == k).tolist()]).format("hill")
        for k in range(int(numbers.max()) + 1)
    ]
    names = tuple(sorted(set(formulas)))
    return np.array([names.index(one) for one in formulas], dtype=np.int64), names


def _displacements(replica: Replica, track: Track, molecule: Int) -> Float:
    """Return the mean square displacements of all molecules and of each kind, shape (1 + n_kinds, n_frames)."""
    numbers = renumbered(molecule)
    where = centres(track.positions.astype(np.float64), replica.masses_array(), numbers)
    return displacement_of_kinds(where, _kinds(replica.atoms.get_chemical_symbols(), numbers)[0])


def _common_ps(seen: Observation, data: Dataset) -> float:
    """Return the length that both sides have, from which the window of lags is taken."""
    return min(float(seen["time"][-1]), float(named(data, "displacement_times")[-1]))


def _coefficients(displacement: Float, times_ps: Float, length_ps: float) -> Float:
    """Return diffusion coefficients, cm²/s, shape (n_trajectories, 1 + n_kinds)."""
    return np.array([
        [diffusion(curve, times_ps, length_ps=length_ps).value_cm2_s for curve in one] for one in displacement
    ])


def _reference(data: Dataset, length_ps: float) -> Float:
    """Return the coefficients of the reference's trajectories over the window of such a length."""
    curves = np.asarray(named(data, "displacement"), dtype=np.float64)
    return _coefficients(curves, named(data, "displacement_times"), length_ps)


def _mean_exponent(data: Dataset, length_ps: float) -> float:
    """Return the exponent of the reference's mean displacement of all molecules over that window."""
    curves = np.asarray(named(data, "displacement"), dtype=np.float64)
    return diffusion(curves[:, 0].mean(axis=0), named(data, "displacement_times"), length_ps=length_ps).exponent


def _reference_curve(seen: Observation, data: Dataset) -> Float:
    """Return the reference's mean displacement of all molecules at the model's lags; its last one beyond its own."""
    curve = np.asarray(named(data, "displacement"), dtype=np.float64)[:, 0].mean(axis=0)
    found: Float = np.interp(seen["time"], named(data, "displacement_times"), curve)
    return found


def _over_kinds(values: Sequence[MetricValue]) -> MetricValue:
    """Return the mean over kinds of molecules, as unsure as they are when they err together."""

    def mean(name: str) -> float | None:
        own = [getattr(one, name) for one in values]
        return None if None in own else float(np.mean(own))

    value = float(np.mean([one.value for one in values]))
    return replace(values[0], part="", value=value, stderr=mean("stderr"), low=mean("low"), high=mean("high"))


def _stderr(values: Float) -> float:
    """Return the standard error over trajectories; of a single one, its size."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else abs(float(values[0]))
