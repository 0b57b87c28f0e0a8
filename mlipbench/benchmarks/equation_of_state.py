"""At which volume is a crystal at rest, and how hard is it to squeeze?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Errors, Names, parity, value_of
from mlipbench.benchmarks.systems import (
    Systems,
    as_numbers,
    as_texts,
    ask_each,
    left_out_view,
    reference_of,
    share_failed,
    signed_mean,
    size_of_mean,
)
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import magnitudes, squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model
from mlipbench.core.view import Axis, Bars, View
from mlipbench.errors import BadInput, MlipbenchError, ModelFailure, NotApplicable, unknown
from mlipbench.physics.eos import LEAST_VOLUMES, Curve, Fit, delta, fit
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM, MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

OVER: Final = "over crystals that have a minimum; interval over crystals"
METRICS: Final = (
    Metric(
        name="delta", title="Δ", unit="meV/atom", better="lower", good=1.0, bad=100.0, log_scale=True, headline=True,
        lowest=0.0,
        says="root mean square difference of the model's equation of state and the reference's, each with zero energy"
        f" at its own minimum, within ±6 % of the mean of their volumes (Lejaeghere's Δ); mean {OVER}",
    ),
    Metric(
        name="delta_median", title="Δ median", unit="meV/atom", better="lower", good=1.0, bad=100.0, log_scale=True,
        role="diagnostic", lowest=0.0,
        says=f"median of the same {OVER}, by Woodruff's method",
    ),
    Metric(
        name="volume_rmse", title="Volume RMSE", unit="%", better="lower", good=0.5, bad=10.0,
        lowest=0.0,
        says=f"root of the mean squared relative error of the equilibrium volume {OVER}",
    ),
    Metric(
        name="volume_bias", title="Volume bias", unit="%", better="lower", good=0.2, bad=5.0,
        role="diagnostic", lowest=0.0,
        says=f"size of the mean relative error of the equilibrium volume, whose sign a figure shows, {OVER}",
    ),
    Metric(
        name="bulk_modulus_mae", title="Bulk modulus MAE", unit="%", better="lower", good=3.0, bad=50.0,
        lowest=0.0,
        says=f"mean size of the relative error of the bulk modulus {OVER}",
    ),
    Metric(
        name="bulk_modulus_bias", title="Bulk modulus bias", unit="%", better="lower", good=1.0, bad=30.0,
        role="diagnostic", lowest=0.0,
        says="size of the mean relative error of the bulk modulus, whose sign a figure shows (below zero: too soft),"
        f" {OVER}",
    ),
    Metric(
        name="derivative_mae", title="Bulk modulus derivative MAE", unit="", better="lower", good=0.2, bad=3.0,
        role="diagnostic", lowest=0.0,
        says=f"mean size of the error of the bulk modulus' pressure derivative {OVER}",
    ),
    Metric(
        name="no_minimum", title="Crystals without a minimum", unit="", better="lower", good=0.0, bad=0.5,
        role="diagnostic", lowest=0.0, highest=1.0,
        says="share of crystals, of those the model covers, that are missing in the other numbers: no minimum was"
        " found, the energies follow no equation of state, or the model failed; interval over crystals, by Clopper and"
        " Pearson",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
REFERENCES: Final = ("volume_A3", "bulk_modulus_GPa", "bulk_modulus_derivative")
CENTRED: Final = 0.04  # a minimum farther from the middle of a scan than this asks for another scan, as in the source
FARTHEST: Final = 0.3  # of the last middle, that the next one may be away
ROUGH: Final = 0.2  # share of the scatter of the energies that a fit may leave
SHOWN_FROM: Final = 1e-3  # meV/atom; figures of decades have no place for zero


@dataclass(frozen=True, slots=True, kw_only=True)
class EquationOfState:
    """Scale each crystal as a whole, and fit energies over volumes.

    Cells keep their shape and atoms their fractional coordinates, as in the reference. Where the fitted minimum is more
    than 4 % from the middle of the volumes, another scan is centred on it. Needs data with equations of state, such as
    the collection `delta_codes`.

    Attributes:
        elements: only crystals of these; empty for all that the model covers.
        n_volumes: of a scan.
        strain: half the width of a scan, as a share of its middle volume.
        n_scans: of one crystal, at most.
    """

    about: ClassVar[About] = About(
        name="equation_of_state",
        title="Equation of state",
        question="At which volume is a crystal at rest, and how hard is it to squeeze?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="K. Lejaeghere, V. Van Speybroeck, G. Van Oost, S. Cottenier, Crit. Rev. Solid State Mater. Sci. 39, 1"
        " (2014), doi:10.1080/10408436.2013.772503",
        seconds=10.0,
    )

    elements: tuple[str, ...] = ()
    n_volumes: int = 7
    strain: float = 0.06
    n_scans: int = 4

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for energies around the reference's volumes, and around the model's own where they are elsewhere.

        Raises:
            BadInput: a parameter is out of range, or no crystal has such an element.
            NotApplicable: the data hold no equations of state, or the model covers no crystal.
            ModelFailure: no crystal that the model covers has a minimum.
        """
        self._check(data)
        middle_A3, *_ = (reference_of(data, name) for name in REFERENCES)
        scans = {k: _Scan(middle_A3=float(middle_A3[k])) for k in self._chosen(data)}
        for _ in range(self.n_scans):
            todo = {k: scan for k, scan in scans.items() if not scan.is_done}
            volumes = {k: scan.middle_A3 * self._scales() for k, scan in todo.items()}
            frames = [[_scaled(data.frames[k], float(v)) for v in volumes[k]] for k in todo]
            answers = ask_each(model, frames, context, remark="scaled crystals")
            for k, answer in zip(todo, answers, strict=True):
                scans[k] = todo[k].taken(volumes[k], answer, n_atoms=len(data.frames[k]))
        _refuse_nothing(list(scans.values()))
        kept = {k: scan for k, scan in scans.items() if not scan.problem}
        lost = {k: scan for k, scan in scans.items() if scan.problem}
        return {
            "crystal": np.array(list(kept)),
            "volume": np.array([scan.volume_A3 for scan in kept.values()]),
            "energy": np.array([scan.energy_eV for scan in kept.values()]),
            "left_out": np.array(list(lost), dtype=np.int64),
            "is_covered": np.array([scan.is_covered for scan in lost.values()], dtype=bool),
            "reason": as_numbers([scan.problem for scan in lost.values()]),
        }

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Fit the energies and compare with the reference."""
        distances, volume, modulus, derivative = _compared(seen, data)
        names, kinds = volume.units, volume.config_types
        volumes, moduli = _relative(volume), _relative(modulus)
        by_kind: list[tuple[str, Bool]] = [("", np.ones(len(names), dtype=bool))]
        by_kind += [(f"config_type={kind}", kinds == kind) for kind in np.unique(kinds).tolist()]
        found: list[MetricValue] = []
        for metric, rows, reducer in (
            ("delta", magnitudes(distances), "mean"),
            ("volume_rmse", squares(volumes.predicted - volumes.reference), "root_mean"),
            ("bulk_modulus_mae", magnitudes(moduli.predicted - moduli.reference), "mean"),
        ):
            found += [value_of(DEFINED[metric], rows[own], names[own], reducer, part=part) for part, own in by_kind]
        wrong = magnitudes(derivative.predicted - derivative.reference)
        found += [
            value_of(DEFINED["delta_median"], distances.reshape(-1, 1), names, "median"),
            size_of_mean(DEFINED["volume_bias"], volumes),
            size_of_mean(DEFINED["bulk_modulus_bias"], moduli),
            value_of(DEFINED["derivative_mae"], wrong, names, "mean"),
        ]
        systems = self._systems(seen, data)
        return (*systems.told(found), share_failed(DEFINED["no_minimum"], systems))

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return names of metrics that these data allow: all."""
        return tuple(DEFINED)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show volumes and bulk moduli against the reference, Δ of each crystal, and what was left out."""
        distances, volume, modulus, _ = _compared(seen, data)
        shown = np.maximum(distances, SHOWN_FROM)
        signed = [
            signed_mean(DEFINED[f"{name}_bias"], _relative(errors))
            for name, errors in (("volume", volume), ("bulk_modulus", modulus))
        ]
        left_out = [data.uid[k] for k in seen["left_out"]]
        covered, reasons = seen["is_covered"].tolist(), as_texts(seen["reason"])
        why = [reason if covers else "not covered" for covers, reason in zip(covered, reasons, strict=True)]
        return (
            parity("Equilibrium volumes", Axis(quantity="volume per atom", unit="Å³"), volume, volume.config_types),
            parity("Bulk moduli", Axis(quantity="bulk modulus", unit="GPa"), modulus, modulus.config_types),
            Bars(
                title="Δ by crystal", axis=Axis(quantity="Δ", unit="meV/atom", log=True),
                labels=tuple(volume.units.tolist()), values=shown, low=shown, high=shown,
            ),
            Bars(
                title="Mean signed errors", axis=Axis(quantity="relative error", unit="%"),
                labels=("volume", "bulk modulus"), values=np.array([one.value for one in signed]),
                low=np.array([one.value if one.low is None else one.low for one in signed]),
                high=np.array([one.value if one.high is None else one.high for one in signed]),
            ),
            *left_out_view("Crystals", left_out, why, n_used=len(distances)),
        )  # fmt: skip

    def _check(self, data: Dataset) -> None:
        """Refuse parameters without meaning."""
        if self.n_volumes < LEAST_VOLUMES:
            raise BadInput(f"equation_of_state: n_volumes is {self.n_volumes}; it must be {LEAST_VOLUMES} or more")
        if not 0.0 < self.strain < 0.5:
            raise BadInput(f"equation_of_state: strain is {self.strain:g}; it must be above 0 and below 0.5")
        if self.n_scans < 1:
            raise BadInput(f"equation_of_state: n_scans is {self.n_scans}; it must be 1 or more")
        for element in self.elements:
            if element not in data.spec.elements:
                raise unknown("element", element, data.spec.elements, where="equation_of_state")

    def _chosen(self, data: Dataset) -> list[int]:
        """Return the numbers of the crystals asked about."""
        wanted = set(self.elements or data.spec.elements)
        return [k for k, frame in enumerate(data.frames) if set(frame.symbols) <= wanted]

    def _systems(self, seen: Observation, data: Dataset) -> Systems:
        """Return which crystals were asked about, and which of them have no equation of state."""
        chosen = self._chosen(data)
        names: Names = np.array(data.trajectory)
        uncovered, failed = (seen["left_out"][its] for its in (~seen["is_covered"], seen["is_covered"]))
        return Systems(
            names=tuple(names[chosen].tolist()), kinds=tuple(data.config_type[k] for k in chosen),
            covered=frozenset(names[np.setdiff1d(chosen, uncovered)].tolist()),
            failed=frozenset(names[failed].tolist()),
        )  # fmt: skip

    def _scales(self) -> Float:
        return np.linspace(1.0 - self.strain, 1.0 + self.strain, self.n_volumes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """What is known of one crystal.

    Attributes:
        middle_A3: of the next scan, volume per atom.
        volume_A3: of the last scan, per atom.
        energy_eV: likewise.
        problem: why there is no equation of state so far; empty when there is one.
        is_covered: does the model cover its elements?
        is_done: is another scan of no use?
    """

    middle_A3: float
    volume_A3: Float = field(default_factory=lambda: np.zeros(0))
    energy_eV: Float = field(default_factory=lambda: np.zeros(0))
    problem: str = "not asked"
    is_covered: bool = True
    is_done: bool = False

    def taken(self, volume_A3: Float, answer: Float | MlipbenchError, *, n_atoms: int) -> _Scan:
        """Look at the energies of a scan, or at what came instead, and say whether to go on, and where."""
        if isinstance(answer, MlipbenchError):
            covers = isinstance(answer, ModelFailure) or len(self.energy_eV) > 0
            return replace(self, problem=str(answer), is_covered=covers, is_done=True)
        found = fit(volume_A3, answer / n_atoms)
        problem, shift = _problem(found), _shift(found, self.middle_A3)
        return replace(
            self, middle_A3=self.middle_A3 * (1.0 + shift), volume_A3=volume_A3, energy_eV=answer / n_atoms,
            problem=problem, is_done=not problem and abs(shift) <= CENTRED,
        )  # fmt: skip


def _problem(found: Fit) -> str:
    """Say why a fit is no equation of state; empty when it is one."""
    if found.residual_eV > ROUGH * found.scatter_eV:
        return "energies follow no equation of state"
    if not found.is_inside:
        return f"no minimum: the energy falls as the crystal {'shrinks' if found.falls_inward else 'grows'}"
    return ""


def _shift(found: Fit, middle_A3: float) -> float:
    """Return how far, as a share of the middle volume, the next scan should move."""
    if found.curve is None:
        return -FARTHEST / 2.0 if found.falls_inward else FARTHEST / 2.0
    return float(np.clip(found.curve.volume_A3 / middle_A3 - 1.0, -FARTHEST, FARTHEST))


def _scaled(frame: Atoms, volume_A3: float) -> Atoms:
    """Return a crystal of another volume per atom: same shape, same fractional coordinates."""
    scaled = frame.copy()
    factor = (volume_A3 * len(frame) / frame.get_volume()) ** (1 / 3)
    scaled.set_cell(frame.cell.array * factor, scale_atoms=True)
    return scaled


def _refuse_nothing(scans: list[_Scan]) -> None:
    """Refuse a model that has no equation of state at all.

    Raises:
        NotApplicable: it covers no crystal.
        ModelFailure: it covers some, and none has a minimum.
    """
    covered = [scan for scan in scans if scan.is_covered]
    if not covered:
        raise NotApplicable(scans[0].problem if scans else "no crystal is of these elements alone")
    if all(scan.problem for scan in covered):
        raise ModelFailure(f"none of {len(covered)} crystals has an equation of state; the first: {covered[0].problem}")


def _compared(seen: Observation, data: Dataset) -> tuple[Float, Errors, Errors, Errors]:
    """Return Δ in meV/atom, and volumes (Å^3 per atom), bulk moduli (GPa) and derivatives beside their reference."""
    chosen: Int = seen["crystal"]
    reference = [reference_of(data, name)[chosen] for name in REFERENCES]
    curves = [fit(v, e).curve for v, e in zip(seen["volume"], seen["energy"], strict=True)]
    predicted = np.array([_parameters(curve) for curve in curves if curve is not None]).T
    names: Names = np.array(data.trajectory)[chosen]
    kinds: Names = np.array(data.config_type)[chosen]
    distances = [
        MEV_PER_EV * delta(_curve(*one), _curve(*other))
        for one, other in zip(predicted.T, np.array(reference).T, strict=True)
    ]
    volume, modulus, derivative = (
        Errors(of=of, reference=theirs, predicted=ours, units=names, config_types=kinds)
        for of, theirs, ours in zip(("volume", "bulk_modulus", "derivative"), reference, predicted, strict=True)
    )
    return np.array(distances), volume, modulus, derivative


def _parameters(curve: Curve) -> tuple[float, float, float]:
    return curve.volume_A3, curve.modulus_eV_per_A3 * GPA_PER_EV_PER_CUBIC_ANGSTROM, curve.derivative


def _curve(volume_A3: float, modulus_GPa: float, derivative: float) -> Curve:
    modulus = modulus_GPa / GPA_PER_EV_PER_CUBIC_ANGSTROM
    return Curve(volume_A3=volume_A3, modulus_eV_per_A3=modulus, derivative=derivative)


def _relative(errors: Errors) -> Errors:
    """Return the same in % of the reference."""
    return Errors(
        of=errors.of, reference=np.full(len(errors.reference), 100.0),
        predicted=100.0 * errors.predicted / errors.reference, units=errors.units, config_types=errors.config_types,
    )  # fmt: skip
