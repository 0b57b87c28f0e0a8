"""Does a liquid bind as it should when its molecules are moved together and apart?

The frames are those of the data, labelled by the reference: liquids from a gas to far beyond liquid density, or
clusters, with rigid molecules or with all atoms scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Names, share_of, value_of
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.rigid import virial_errors
from mlipbench.benchmarks.scan_curves import (
    Pair,
    Scan,
    can_be_absolute,
    ignorant_pairs,
    observe_scans,
    pairs_of,
    scans_of,
    systems_of,
)
from mlipbench.benchmarks.systems import Systems, as_texts, left_out_view, share_failed
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.policy import counted_zero
from mlipbench.core.view import Axis, Lines, View
from mlipbench.physics.curves import crossing, lowest, roughness, spline_minimum
from mlipbench.physics.scans import Shape, shape_of
from mlipbench.units import MEV_PER_EV

WELL_EV: Final = 0.3  # per molecule above the reference's minimum: what belongs to the well
MOST_PERCENT: Final = 100.0
RELATIVE_FLAGS: Final = ("no_minimum", "double_minimum")  # need no energy of free molecules
NEED_ALONE: Final = ("depth_error", "free_error", "wall_error", "collapse", "unbound")  # where the reference has it
WALL_EV: Final = 0.5  # per molecule above the minimum: where the wall is
SHOWN_TO_MEV: Final = 500.0
OVER: Final = "interval over scans"


def _absolute(
    name: str, title: str, unit: str, good: float, bad: float, says: str, *, headline: bool = False,
    highest: float | None = None,
) -> Metric:  # fmt: skip
    """Return the definition of a mean size of an error."""
    return Metric(
        name=name, title=title, unit=unit, better="lower", good=good, bad=bad, headline=headline,
        role="merit" if headline else "diagnostic", lowest=0.0, highest=highest,
        says=f"{says}; {OVER}",
    )  # fmt: skip


METRICS: Final = (
    _absolute(
        "well_rmse", "Well RMSE", "meV/atom", 0.5, 10.0,
        "root mean square error of E - E_min per atom, over places where the reference is within 0.3 eV per molecule of"
        " its minimum", headline=True,
    ),
    _absolute(
        "minimum_error", "Place of the minimum", "%", 0.5, 10.0,
        "mean size of the error of the volume (without a cell: of the scale) at the minimum; of a model without one, at"
        " the lower end; at most 100 %",
        headline=True, highest=100.0,
    ),
    _absolute(
        "depth_error", "Depth", "%", 2.0, 50.0,
        "mean size of the error of the energy at the minimum less that of the molecules alone, at most 100 %; rigid"
        " molecules only",
        headline=True, highest=100.0,
    ),
    _absolute(
        "curvature_error", "Curvature", "%", 5.0, 100.0,
        "mean size of the error of V d²E/dV² (without a cell: s² d²E/ds²) at the minimum; of a model without one,"
        " 100 %",
        headline=True,
    ),
    _absolute(
        "free_error", "Free molecules", "meV", 1.0, 50.0,
        "mean size of the error, per molecule, of the energy at the expanded end less that of the molecules alone",
    ),
    _absolute(
        "wall_error", "Place of the wall", "%", 0.5, 10.0,
        "mean size of the error of the volume (without a cell: of the scale) where the energy is 0.5 eV per molecule"
        " above the reference's minimum; of a model that never gets there, 100 %", headline=True,
    ),
    _absolute(
        "rmse", "RMSE", "meV/atom", 10.0, 1000.0,
        "root mean square error of E - E_min per atom, over the whole scan, the far wall too",
    ),
    _absolute(
        "roughness", "Roughness", "meV/atom", 0.05, 2.0,
        "root mean square of what is left of the error at each place of the well when that expected from its four"
        " neighbours (a cubic) is taken off",
    ),
    Metric(
        name="virial_identity", title="Molecular virial", unit="", better="lower", good=2e-4, bad=5e-3, log_scale=True,
        role="diagnostic", lowest=0.0,
        says="difference of tr W - Σ (r - R)·f and minus the slope of the energy along the logarithm of the scale,"
        " relative to the larger of both and of their median size on the scan (at least 1 meV per molecule); root mean"
        f" square over places; {OVER}",
    ),
    *(
        Metric(
            name=field.name, title=field.name.replace("_", " ").capitalize(), unit="", better="lower", good=0.0,
            bad=0.5, role="diagnostic", lowest=0.0, highest=1.0,
            says=f"share of scans with this flag where the reference has none, see docs/metrics.md; {OVER}",
        )
        for field in fields(Shape)
    ),
    Metric(
        name="not_computed", title="Scans not computed", unit="", better="lower", good=0.0, bad=0.5,
        role="diagnostic", lowest=0.0, highest=1.0,
        says="share of scans, of those the model covers, with a frame, or molecules alone, that it has no answer for,"
        " so that the scan is missing in other numbers; interval over scans, by Clopper and Pearson",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
ROOT_MEANS: Final = ("well_rmse", "rmse", "roughness", "virial_identity")
FLAGS: Final = tuple(field.name for field in fields(Shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeScan:
    """Ask for all frames of the scans in the data.

    Attributes:
        lone_elements: never bonded where the data name no molecules.
    """

    about: ClassVar[About] = About(
        name="volume_scan",
        title="Volume scans",
        question="Does a liquid bind as it should when its molecules are moved together and apart?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="rigid-molecule volume scans after I.-B. Magdău et al., npj Comput. Mater. 9, 146 (2023)",
        needs=frozenset({"labels", "molecules"}),
        seconds=5.0,
    )

    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask along all scans; one with a frame that the model covers and has no answer for has failed.

        Raises:
            BadInput: a scan's frames do not hold the same molecules.
            NotApplicable: the data hold no scan, or the model covers none.
            ModelFailure: the model covers a scan, and has no answer for any frame.
        """
        return observe_scans(model, self._scans(data), context, with_virials=True)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare curves, and what they say of minimum, wall and ends."""
        scans = self._scans(data)
        whole, absolute = (systems_of(seen, data, scans, alone_too=alone) for alone in (False, True))
        rows: dict[str, list[tuple[str, Float]]] = {}
        for pair in pairs_of(seen, data, scans):
            if pair.scan.name in whole.covered - whole.failed:
                for name, row in _compared(pair, data):
                    rows.setdefault(name, []).append((pair.scan.name, row))
        for name, row in _virial_rows(seen, scans):
            if name in whole.covered - whole.failed:
                rows.setdefault("virial_identity", []).append((name, row))
        values = [_value(metric, rows[metric.name]) for metric in METRICS if metric.name in rows]
        ignorant = _ignorant(data, scans)
        only = {name: [one for one, _ in own] for name, own in ignorant.items()}
        zero = {name: _zero(name, own, whole) for name, own in ignorant.items() if DEFINED[name].role == "merit"}
        return (
            *whole.told((one for one in values if one.metric not in NEED_ALONE), zero=zero, only=only),
            *absolute.told((one for one in values if one.metric in NEED_ALONE), zero=zero, only=only),
            share_failed(DEFINED["not_computed"], absolute),
        )

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return names of metrics that the reference's curves allow."""
        return tuple(_ignorant(data, self._scans(data)))

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show each scan beside the reference's, cut off above, and what was left out."""
        scans = self._scans(data)
        shown: list[View] = [_view(pair) for pair in pairs_of(seen, data, scans)]
        failed = [data.uid[frame] for frame in seen["failed_frame"].tolist()]
        reasons = as_texts(seen["failed_reason"])
        return (*shown, *left_out_view("Frames", failed, reasons, n_used=len(seen["frame"])))

    def _scans(self, data: Dataset) -> tuple[Scan, ...]:
        return scans_of(data, lone_elements=self.lone_elements)


def _ignorant(data: Dataset, scans: tuple[Scan, ...]) -> dict[str, list[tuple[str, Float]]]:
    """Return the rows of a model of a constant energy, by metric: those that the reference allows."""
    rows: dict[str, list[tuple[str, Float]]] = {}
    for pair in ignorant_pairs(data, scans):
        for name, row in _compared(pair, data):
            rows.setdefault(name, []).append((pair.scan.name, row))
    return rows


def _zero(name: str, rows: list[tuple[str, Float]], systems: Systems) -> float:
    """Return what such a model gets, on all scans that the judged one covers."""
    own = [(scan, row) for scan, row in rows if scan in systems.covered] or rows
    return counted_zero(DEFINED[name], _value(DEFINED[name], own))


def _value(metric: Metric, rows: list[tuple[str, Float]]) -> MetricValue:
    """Return a mean, or the root of a mean square, over scans."""
    units: Names = np.array([name for name, row in rows for _ in row])
    values = np.concatenate([row for _, row in rows])
    if metric.name in FLAGS:
        return share_of(metric, values[:, 0] > 0.0, units)
    return value_of(metric, values, units, "root_mean" if metric.name in ROOT_MEANS else "mean")


def _compared(pair: Pair, data: Dataset) -> Iterator[tuple[str, Float]]:
    """Give the rows of each metric of one scan."""
    has_zero = pair.is_absolute or not can_be_absolute(pair.scan, data)
    reference, model = pair.reference, pair.model
    per_atom = MEV_PER_EV * pair.scan.n_molecules / len(pair.scan.company[0].atoms)
    wrong = per_atom * ((model - model.min()) - (reference - reference.min()))
    well = np.flatnonzero(reference - reference.min() <= WELL_EV)
    yield "rmse", squares(wrong)
    if len(well):
        yield "well_rmse", squares(wrong[well])
        yield "roughness", squares(roughness(pair.size, wrong)[well])
    there, told = spline_minimum(pair.size, reference), lowest(pair.size, model)
    if there:
        yield "minimum_error", _percent(told[0], there[0], most=MOST_PERCENT)
        if there[2] > 0.0:
            yield "curvature_error", _percent(_stiffness(pair, told), _stiffness(pair, there))
        if pair.is_absolute and there[1] < 0.0:
            yield "depth_error", _percent(told[1], there[1], most=MOST_PERCENT)
    level = float(reference.min()) + WALL_EV
    walls = [crossing(pair.size, energy, level) for energy in (reference, model)]
    if walls[0] and has_zero:
        yield "wall_error", _percent(walls[1] or 0.0, walls[0])
    if pair.is_absolute:
        yield "free_error", np.array([[MEV_PER_EV * abs(model[-1] - reference[-1]), 1.0]])
    flags = zip(fields(Shape), astuple(shape_of(model)), astuple(shape_of(reference)), strict=True)
    for field, has, should in flags:
        if pair.is_absolute or field.name in RELATIVE_FLAGS:
            yield field.name, np.array([[float(has and not should), 1.0]])


def _percent(told: float, there: float, *, most: float = np.inf) -> Float:
    """Return the row of the size of a relative error in per cent; a single collapse must not rule all scans."""
    return np.array([[min(100.0 * abs(told / there - 1.0), most), 1.0]])


def _stiffness(pair: Pair, minimum: tuple[float, float, float]) -> float:
    """Return V d²E/dV² in a cell (eV/Å^3 per molecule), s² d²E/ds² without one (eV per molecule)."""
    place, _, curvature = minimum
    return curvature * (place if pair.scan.is_periodic else place**2)


def _virial_rows(seen: Observation, scans: tuple[Scan, ...]) -> Iterator[tuple[str, Float]]:
    """Give the squared errors of the molecular virial, scan by scan."""
    if "virial_known" not in seen:
        return
    known = seen["virial_known"].astype(bool)
    errors = virial_errors(seen["virial_told"], seen["virial_slope"], seen["virial_scan"])
    for number, scan in enumerate(scans):
        own = known & (seen["virial_scan"] == number)
        if own.any():
            yield scan.name, squares(errors[own])


def _view(pair: Pair) -> View:
    """Show one scan."""
    order = np.argsort(pair.place)
    low = float(pair.reference.min()) * MEV_PER_EV
    curves = np.array([MEV_PER_EV * energy[order] for energy in (pair.model, pair.reference)])
    periodic = pair.scan.is_periodic
    return Lines(
        title=f"Scan {pair.scan.name}: energy less that "
        + ("of the molecules alone" if pair.is_absolute else "at the expanded end"),
        x_axis=Axis(quantity="density", unit="g/cm³") if periodic else Axis(quantity="scale of the centres' distances"),
        y_axis=Axis(quantity="energy", unit="meV/molecule"), names=("model", "reference"), x=pair.place[order],
        y=np.clip(curves, 1.5 * min(low, -100.0), SHOWN_TO_MEV),
    )  # fmt: skip
