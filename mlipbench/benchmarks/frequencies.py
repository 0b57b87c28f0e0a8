"""Do molecules vibrate at the reference's frequencies?

Each molecule slides from the reference's minimum to the model's own; there the model's Hessian comes from central
differences of its forces, all 6n displaced geometries in one question. Translations and rotations are projected out,
and each vibration is compared with the reference's vibration that it overlaps with most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Names, bars, value_of
from mlipbench.benchmarks.minima import NOT_COVERED, REASONS, Search, Tried
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.systems import Systems, share_failed
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model
from mlipbench.core.policy import counted_zero
from mlipbench.core.view import Axis, Bars, Parity, View
from mlipbench.errors import BadInput, MlipbenchError, ModelFailure, NotApplicable
from mlipbench.physics.vibrations import (
    Comparison,
    asymmetry_squares,
    compared,
    vibrations,
)
from mlipbench.units import MEV_PER_EV

OVER: Final = "interval over trajectories (molecules), from three on"
METRICS: Final = (
    Metric(
        name="wavenumber_rmse", title="Wavenumber RMSE", unit="cm⁻¹", better="lower", good=5.0, bad=100.0,
        headline=True,
        lowest=0.0,
        says="root of the mean squared error of harmonic wavenumbers over all vibrations of all molecules, each beside"
        f" the reference's vibration that it overlaps with most; imaginary ones count as negative; {OVER}",
    ),
    Metric(
        name="wavenumber_mean_error", title="Wavenumber mean error", unit="cm⁻¹", better="lower", good=2.0, bad=50.0,
        role="diagnostic", lowest=0.0,
        says=f"size of the mean of the signed errors of the same pairs, whose sign a figure shows; {OVER}",
    ),
    Metric(
        name="wavenumber_sorted_rmse", title="Wavenumber RMSE, sorted", unit="cm⁻¹", better="lower", good=5.0,
        bad=100.0,
        role="diagnostic", lowest=0.0,
        says="the same root mean square with each molecule's wavenumbers only sorted on both sides, whatever the atoms"
        f" do; where it is much smaller, the model exchanges vibrations; {OVER}",
    ),
    Metric(
        name="zero_point_error", title="Zero-point energy error", unit="meV", better="lower", good=5.0, bad=100.0,
        lowest=0.0,
        says=f"root mean square over molecules of the error of half the sum of hcν, imaginary ones left out; {OVER}",
    ),
    Metric(
        name="imaginary_modes", title="Imaginary modes", unit="%", better="lower", good=0.0, bad=5.0,
        role="diagnostic", lowest=0.0, highest=100.0,
        says=f"share of vibrations with a negative curvature where the model came to rest; {OVER}",
    ),
    Metric(
        name="geometry_rmsd", title="Geometry RMSD", unit="Å", better="lower", good=0.01, bad=0.3,
        lowest=0.0,
        says="root of the mean squared distance of the model's minima from the reference's, over all atoms of all"
        f" molecules, after superposition; {OVER}",
    ),
    Metric(
        name="hessian_asymmetry", title="Hessian asymmetry", unit="", better="lower", good=1e-3, bad=0.03,
        log_scale=True,
        role="diagnostic", lowest=0.0,
        says="norm of the antisymmetric part of the Hessian over its norm, root of the ratio of the sums of squares"
        f" over molecules; finite differences alone give less than 1e-4; {OVER}",
    ),
    Metric(
        name="not_converged", title="Molecules left out", unit="%", better="lower", good=0.0, bad=50.0,
        role="diagnostic", lowest=0.0, highest=100.0,
        says="share of trajectories (molecules), of those the model covers, that are missing in the other numbers: the"
        " model failed, did not come to rest, or bonds or shape changed on the way; interval by Clopper and Pearson",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
RANGES: Final = {
    "below 500 cm⁻¹": (-np.inf, 500.0),
    "500 to 2000 cm⁻¹": (500.0, 2000.0),
    "above 2000 cm⁻¹": (2000.0, np.inf),
}
FEWEST_UNITS: Final = 3
MOST_NAMED: Final = 4
AT_REST_EV_A: Final = 0.05  # a larger force at the reference's geometry, and it is no minimum


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequencies:
    """Harmonic vibrations of single molecules at the model's own minima.

    Needs data whose frames are minima of the reference, without a cell, and among its observables, as "uid/hessian",
    the reference's Hessian there (eV/Å², row and column 3i + k for coordinate k of atom i).

    Attributes:
        force_eV_A: a molecule rests when no force on an atom is larger.
        most_steps: of the relaxation.
        step_A: of the central differences.
        lone_elements: never bonded when bonds are looked for.
    """

    about: ClassVar[About] = About(
        name="frequencies",
        title="Vibrational frequencies",
        question="Do molecules vibrate at the reference's frequencies?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="E. B. Wilson, J. C. Decius & P. C. Cross, Molecular Vibrations (1955), chapter 2",
        seconds=5.0,
    )

    force_eV_A: float = 1e-3
    most_steps: int = 3000
    step_A: float = 0.005
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Relax every molecule and take its Hessian; one that fails is noted and left out.

        Raises:
            BadInput: a parameter is out of range, or a reference is periodic, no minimum or of the wrong shape.
            NotApplicable: no frame has a Hessian, or the model covers no molecule.
            ModelFailure: no molecule is left.
        """
        if not (self.force_eV_A > 0.0 and self.step_A > 0.0 and self.most_steps > 0):
            raise BadInput(
                f"frequencies: force_eV_A = {self.force_eV_A}, step_A = {self.step_A} and most_steps ="
                f" {self.most_steps} must all be positive"
            )
        asked = _with_hessian(data)
        for i in asked:
            _refuse_no_minimum(data, i)
        search = Search(
            force_eV_A=self.force_eV_A, most_steps=self.most_steps, step_A=self.step_A,
            lone_elements=tuple(self.lone_elements),
        )  # fmt: skip
        tried = list(search.tried(model, [data.frames[i] for i in asked], context))
        seen = {
            "frame": np.array(asked),
            "reason": np.array([one.reason for one in tried]),
            "positions": np.concatenate([one.positions for one in tried]),
            "hessian": np.concatenate([one.hessian.ravel() for one in tried]),
        }
        systems = _systems(seen, data)
        if systems.failed == systems.covered:
            raise _nothing_left(data, asked, tried)
        return seen

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare vibrations, zero-point energies and geometries."""
        frames, molecules, norms = _compared(seen, data)
        of_molecule: Names = np.array([data.trajectory[i] for i in frames])
        n_modes = [len(one.reference) for one in molecules]
        units = np.repeat(of_molecule, n_modes)
        uid = np.repeat(np.array([data.uid[i] for i in frames]), n_modes)
        reference, predicted, ordered = _together(molecules)
        everything = {"": np.ones(len(reference), dtype=bool)}
        parts = everything | _ranges(reference)
        each = {f"molecule={name}": uid == name for name in dict.fromkeys(uid.tolist())}
        zero_point = np.array([MEV_PER_EV * one.zero_point_error_eV for one in molecules])
        apart = np.array([[one.squares_A2.sum(), len(one.squares_A2)] for one in molecules])
        found = (
            *_of_parts("wavenumber_rmse", predicted - reference, units, parts | each),
            *_of_parts("wavenumber_mean_error", predicted - reference, units, parts),
            *_of_parts("wavenumber_sorted_rmse", ordered - reference, units, everything),
            _value("zero_point_error", squares(zero_point), of_molecule, "root_mean"),
            _value("imaginary_modes", _share(ordered < 0.0), units, "mean"),
            _value("geometry_rmsd", apart, of_molecule, "root_mean"),
        )
        if (norms[:, 1] > 0.0).all():  # without any stiffness there is nothing to be symmetric
            found = (*found, _value("hessian_asymmetry", norms, of_molecule, "root_mean"))
        systems = _systems(seen, data)
        own = [value for value in found if value.part.startswith("molecule=")]  # each says nothing of the others
        told = systems.told(
            (value for value in found if not value.part.startswith("molecule=")), zero=_zero(seen, data)
        )
        return (*map(_withheld, (*told, *own)), share_failed(DEFINED["not_converged"], systems))

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return names of metrics that these data allow: all."""
        return tuple(DEFINED)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show wavenumbers beside the reference's, and the errors of molecules and ranges."""
        frames, molecules, _ = _compared(seen, data)
        reference, predicted, _ = _together(molecules)
        uid = [data.uid[i] for i, one in zip(frames, molecules, strict=True) for _ in one.reference]
        rmse = [one for one in self.score(seen, data) if one.metric == "wavenumber_rmse"]
        ranges = _ranges(reference)
        means = np.array([(predicted - reference)[chosen].mean() for chosen in ranges.values()])
        return (
            Parity(
                title="Wavenumbers", axis=Axis(quantity="wavenumber", unit="cm⁻¹"), reference=reference,
                predicted=predicted, group=tuple(uid),
            ),
            bars(
                "Wavenumber RMSE by molecule", Axis(quantity="wavenumber RMSE", unit="cm⁻¹"),
                [one for one in rmse if one.part.startswith("molecule=")],
            ),
            Bars(
                title="Mean signed error of wavenumbers by range",
                axis=Axis(quantity="model less reference", unit="cm⁻¹"),
                labels=tuple(part.partition("=")[2] for part in ranges),
                values=means, low=means, high=means,
            ),
            *_left_out(seen, data),
        )  # fmt: skip


def _with_hessian(data: Dataset) -> list[int]:
    """Return the frames that have a Hessian, and vibrations.

    Raises:
        NotApplicable: there are none.
    """
    found = [i for i, uid in enumerate(data.uid) if f"{uid}/hessian" in data.observables and len(data.frames[i]) > 1]
    if not found:
        raise NotApplicable(
            f"data set {data.spec.name}: no molecule here has a Hessian to compare with; this needs minima of the"
            " reference and, in the file of [[observables]], an array 'uid/hessian' (eV/Å²) for each"
        )
    return found


def _refuse_no_minimum(data: Dataset, i: int) -> None:
    """Refuse a frame that cannot be a reference.

    Raises:
        BadInput: it is periodic, no minimum, or its Hessian has the wrong shape.
    """
    frame, hessian = data.frames[i], data.observables[f"{data.uid[i]}/hessian"]
    where, n = f"data set {data.spec.name}, frame {data.uid[i]}", 3 * len(frame)
    if frame.pbc.any():
        raise BadInput(f"{where} is periodic; frequencies are those of single molecules, without a cell")
    if hessian.shape != (n, n):
        raise BadInput(f"{where}: the Hessian has shape {hessian.shape}; ({n}, {n}) is needed for {n // 3} atoms")
    largest = float(np.linalg.norm(data.forces[data.offsets[i] : data.offsets[i + 1]], axis=1).max())
    lowest = float(vibrations(hessian, frame.positions, frame.get_masses()).wavenumbers_per_cm[0])
    if largest > AT_REST_EV_A or lowest < 0.0:
        raise BadInput(
            f"{where} is no minimum of the reference: largest force {largest:.3g} eV/Å, lowest wavenumber {lowest:.1f}"
            " cm⁻¹; relax it with the reference, and take the Hessian there"
        )


def _nothing_left(data: Dataset, asked: Sequence[int], tried: Sequence[Tried]) -> MlipbenchError:
    """Return the error that says why no molecule is left: not applicable when the model covers none."""
    told = "; ".join(f"{data.uid[i]} {REASONS[one.reason]} ({one.words})" for i, one in zip(asked, tried, strict=True))
    if all(one.reason == NOT_COVERED for one in tried):
        return NotApplicable(f"the model covers no molecule of {data.spec.name}: {told}")
    return ModelFailure(f"no molecule of {data.spec.name} has frequencies: {told}")


def _compared(seen: Observation, data: Dataset) -> tuple[list[int], list[Comparison], Float]:
    """Return the frames that were measured, each beside its reference, and the squared norms of their Hessians.

    Returns:
        Numbers of frames; comparisons; and, of shape (n_frames, 2), antisymmetric part and all of it.
    """
    measured: list[int] = seen["frame"][seen["reason"] == 0].tolist()
    failed = _systems(seen, data).failed
    frames = [i for i in measured if data.trajectory[i] not in failed]
    found, norms, atom, entry = [], [], 0, 0
    for i in measured:
        frame, n = data.frames[i], len(data.frames[i])
        positions = seen["positions"][atom : atom + n]
        hessian = seen["hessian"][entry : entry + 9 * n**2].reshape(3 * n, 3 * n)
        atom, entry = atom + n, entry + 9 * n**2
        if data.trajectory[i] in failed:  # a conformer that is missing would flatter its molecule
            continue
        reference = data.observables[f"{data.uid[i]}/hessian"]
        found.append(compared(hessian, positions, reference, frame.positions, masses_u=frame.get_masses()))
        norms.append(asymmetry_squares(hessian))
    return frames, found, np.array(norms)


def _systems(seen: Observation, data: Dataset) -> Systems:
    """Return which trajectories were asked about, and which of them the model has no frequencies for."""
    frames, reason = seen["frame"].tolist(), seen["reason"]
    names: Names = np.array([data.trajectory[i] for i in frames])
    return Systems(
        names=tuple(names.tolist()), kinds=tuple(data.config_type[i] for i in frames),
        covered=frozenset(names[reason != NOT_COVERED].tolist()),
        failed=frozenset(names[(reason > 0) & (reason != NOT_COVERED)].tolist()),
    )  # fmt: skip


def _zero(seen: Observation, data: Dataset) -> dict[str, float]:
    """Return what a model without forces gets, of all molecules that this one covers: every wavenumber is zero."""
    each, names = [], []
    for i in seen["frame"][seen["reason"] != NOT_COVERED].tolist():
        frame, hessian = data.frames[i], data.observables[f"{data.uid[i]}/hessian"]
        each.append(vibrations(hessian, frame.positions, frame.get_masses()).wavenumbers_per_cm)
        names += [data.trajectory[i]] * len(each[-1])
    metric = DEFINED["wavenumber_rmse"]
    return {
        metric.name: counted_zero(metric, value_of(metric, squares(np.concatenate(each)), np.array(names), "root_mean"))
    }


def _withheld(value: MetricValue) -> MetricValue:
    """Return a value without interval where it has only two units: Student's t spans decades then."""
    return value if value.n >= FEWEST_UNITS else replace(value, stderr=None, low=None, high=None)


def _together(molecules: Sequence[Comparison]) -> tuple[Float, Float, Float]:
    """Return the reference's wavenumbers, the matched and the ascending ones of all molecules, cm⁻¹."""
    return (
        np.concatenate([one.reference for one in molecules]),
        np.concatenate([one.matched for one in molecules]),
        np.concatenate([one.ordered for one in molecules]),
    )


def _ranges(reference: Float) -> dict[str, Bool]:
    """Return which vibrations lie in each range of the reference's wavenumbers that holds any."""
    inside = {f"range={name}": (reference >= low) & (reference < high) for name, (low, high) in RANGES.items()}
    return {part: chosen for part, chosen in inside.items() if chosen.any()}


def _of_parts(name: str, errors: Float, units: Names, parts: dict[str, Bool]) -> Iterator[MetricValue]:
    """Give a metric of the errors of each part."""
    for part, chosen in parts.items():
        own = errors[chosen]
        if name == "wavenumber_mean_error":
            signed = np.column_stack([own if own.sum() >= 0.0 else -own, np.ones(len(own))])
            yield _value(name, signed, units[chosen], "mean", part=part)
        else:
            yield _value(name, squares(own), units[chosen], "root_mean", part=part)


def _value(name: str, rows: Float, units: Names, reducer: str, *, part: str = "") -> MetricValue:
    return value_of(DEFINED[name], rows, units, reducer, part=part)


def _share(chosen: Bool | Int) -> Float:
    """Return rows of "mean" whose value is a share in per cent."""
    return np.column_stack([100.0 * chosen, np.ones(len(chosen))])


def _left_out(seen: Observation, data: Dataset) -> tuple[Bars, ...]:
    """Return a figure of which molecules were left out, and why; nothing when none was."""
    reason: Int = seen["reason"]
    if not reason.any():
        return ()
    labels, counts = [], []
    for code, words in REASONS.items():
        own = [data.uid[i] for i in seen["frame"][reason == code].tolist()]
        if own:
            named = ", ".join(own[:MOST_NAMED]) + (", …" if len(own) > MOST_NAMED else "")
            labels.append(words if code == 0 else f"{words}: {named}")
            counts.append(float(len(own)))
    values = np.array(counts)
    axis = Axis(quantity="molecules")
    return (Bars(title="Molecules", axis=axis, labels=tuple(labels), values=values, low=values, high=values),)
