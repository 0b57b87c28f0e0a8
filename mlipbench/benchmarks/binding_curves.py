"""How strongly do two molecules hold each other, and at which distance?

Two molecules with the geometries of a warm liquid, frozen, are pulled apart along the line through their centres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Errors, Names, parity, share_of, value_of
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.scan_curves import (
    Pair,
    Scan,
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
from mlipbench.errors import NotApplicable
from mlipbench.physics.curves import crossing, lowest, spline_minimum
from mlipbench.units import MEV_PER_EV

REPULSIVE_EV: Final = 0.2  # binding energies of the reference above this are the wall
WALL_EV: Final = 0.1
BOUND_EV: Final = -0.005
FAR_A: Final = 6.0  # beyond a sampled pair's contact there is hardly any contact left
SHOWN_TO_MEV: Final = 300.0
OVER: Final = "interval over curves"

METRICS: Final = (
    Metric(
        name="binding_rmse", title="Binding RMSE", unit="meV", better="lower", good=5.0, bad=100.0, headline=True,
        lowest=0.0,
        says="root mean square error of E(pair) - E(molecule) - E(molecule), frozen, over places where the reference's"
        f" is below 0.2 eV; {OVER}",
    ),
    Metric(
        name="well_depth_error", title="Well depth", unit="meV", better="lower", good=5.0, bad=100.0, headline=True,
        lowest=0.0,
        says=f"mean size of the error of the lowest binding energy on each curve; {OVER}",
    ),
    Metric(
        name="well_place_error", title="Well place", unit="Å", better="lower", good=0.02, bad=0.5, lowest=0.0,
        says="mean size of the error of the distance of the centres there, curves where the reference has a minimum;"
        f" {OVER}",
    ),
    Metric(
        name="wall_place_error", title="Wall place", unit="Å", better="lower", good=0.02, bad=0.5, headline=True,
        lowest=0.0,
        says="mean size of the error of the distance of the centres where the energy is 0.1 eV above that of the"
        f" molecules alone; of a model that never crosses it, the nearest or farthest one; {OVER}",
    ),
    Metric(
        name="far_rmse", title="Far RMSE", unit="meV", better="lower", good=1.0, bad=50.0, role="diagnostic",
        lowest=0.0,
        says=f"as the first, over places more than 6 Å farther than the nearest; {OVER}",
    ),
    Metric(
        name="not_bound", title="Not bound", unit="", better="lower", good=0.0, bad=0.5, role="diagnostic",
        lowest=0.0, highest=1.0,
        says="share of the curves with a minimum below -5 meV in the reference that have none below -1 meV in the"
        f" model; {OVER}",
    ),
    Metric(
        name="not_computed", title="Curves not computed", unit="", better="lower", good=0.0, bad=0.5,
        role="diagnostic", lowest=0.0, highest=1.0,
        says="share of curves, of those the model covers, with a place, or molecules alone, that it has no answer for,"
        " so that the curve is missing in the other numbers; interval over curves, by Clopper and Pearson",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
ROOT_MEANS: Final = ("binding_rmse", "far_rmse")


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingCurves:
    """Ask for all frames of the curves in the data.

    Attributes:
        lone_elements: never bonded where the data name no molecules.
    """

    about: ClassVar[About] = About(
        name="binding_curves",
        title="Binding curves",
        question="How strongly do two molecules hold each other, and at which distance?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="E_bind = E(AB) - E(A) - E(B), molecules frozen",
        needs=frozenset({"labels", "molecules", "vacuum_labels"}),
        seconds=3.0,
    )

    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask along all curves; one with a frame that the model covers and has no answer for has failed.

        Raises:
            BadInput: a curve's frames do not hold the same molecules.
            NotApplicable: the data hold no curves, no vacuum labels, or the model covers none.
            ModelFailure: the model covers a curve, and has no answer for any frame.
        """
        return observe_scans(model, self._scans(data), context, with_virials=False)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare curves, all and those of each kind of pair."""
        scans = self._scans(data)
        systems = systems_of(seen, data, scans, alone_too=True)
        answered = systems.covered - systems.failed
        rows = _rows([pair for pair in pairs_of(seen, data, scans) if pair.scan.name in answered], data)
        order = sorted(rows, key=lambda key: (key[1], list(DEFINED).index(key[0])))
        values = [_value(DEFINED[name], part, rows[name, part]) for name, part in order]
        ignorant = _rows(ignorant_pairs(data, scans), data)
        whole = {name: own for (name, part), own in ignorant.items() if not part}
        only = {name: [one for one, _ in own] for name, own in whole.items()}
        zero = {name: _zero(name, own, systems) for name, own in whole.items() if DEFINED[name].role == "merit"}
        return (*systems.told(values, zero=zero, only=only), share_failed(DEFINED["not_computed"], systems))

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return names of metrics that the reference's curves allow."""
        return tuple(name for name, part in _rows(ignorant_pairs(data, self._scans(data)), data) if not part)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show all binding energies against the reference's, one curve of each kind, and what was left out."""
        pairs = pairs_of(seen, data, self._scans(data))
        kinds = [data.config_type[int(pair.scan.frames[0])] for pair in pairs]
        shown: list[View] = [_parity(pairs, kinds)] if pairs else []
        shown += [_view(pair) for pair in pairs]
        failed = [data.uid[frame] for frame in seen["failed_frame"].tolist()]
        reasons = as_texts(seen["failed_reason"])
        return (*shown, *left_out_view("Frames", failed, reasons, n_used=len(seen["frame"])))

    def _scans(self, data: Dataset) -> tuple[Scan, ...]:
        if data.energy_intra is None:
            add = f" Add them with: {data.spec.make_vacuum_labels}" if data.spec.make_vacuum_labels else ""
            raise NotApplicable(f"data set {data.spec.name} has no energies of molecules alone.{add}")
        found = scans_of(data, lone_elements=self.lone_elements, pairs=True)
        rigid = tuple(scan for scan in found if scan.is_rigid and not scan.is_periodic)
        if not rigid:
            raise NotApplicable(f"data set {data.spec.name} has no pairs of rigid molecules without a cell here")
        return rigid


def _rows(pairs: list[Pair], data: Dataset) -> dict[tuple[str, str], list[tuple[str, Float]]]:
    """Return the rows of each metric, by its name and the part: of all curves, and of each kind of pair."""
    rows: dict[tuple[str, str], list[tuple[str, Float]]] = {}
    for pair in pairs:
        kind = data.config_type[int(pair.scan.frames[0])]
        for name, row in _compared(pair):
            for part in ("", f"config_type={kind}"):
                rows.setdefault((name, part), []).append((pair.scan.name, row))
    return rows


def _zero(name: str, rows: list[tuple[str, Float]], systems: Systems) -> float:
    """Return what a model without binding gets, on all curves that the judged one covers."""
    own = [(curve, row) for curve, row in rows if curve in systems.covered] or rows
    return counted_zero(DEFINED[name], _value(DEFINED[name], "", own))


def _value(metric: Metric, part: str, rows: list[tuple[str, Float]]) -> MetricValue:
    units: Names = np.array([name for name, row in rows for _ in row])
    values = np.concatenate([row for _, row in rows])
    if metric.name == "not_bound":
        return share_of(metric, values[:, 0] > 0.0, units, part=part)
    return value_of(metric, values, units, "root_mean" if metric.name in ROOT_MEANS else "mean", part=part)


def _binding(pair: Pair) -> tuple[Float, Float]:
    """Return binding energies of the reference and the model, eV; `Pair` holds them per molecule."""
    return pair.scan.n_molecules * pair.reference, pair.scan.n_molecules * pair.model


def _compared(pair: Pair) -> Iterator[tuple[str, Float]]:
    """Give the rows of each metric of one curve."""
    reference, model = _binding(pair)
    soft = reference < REPULSIVE_EV
    if soft.any():
        yield "binding_rmse", squares(MEV_PER_EV * (model - reference)[soft])
        yield "well_depth_error", _size(MEV_PER_EV * (lowest(pair.place, model)[1] - lowest(pair.place, reference)[1]))
    there, told = (spline_minimum(pair.place, energy) for energy in (reference, model))
    if there and there[1] < BOUND_EV:
        bound = told is not None and told[1] < 0.2 * BOUND_EV
        yield "not_bound", np.array([[float(not bound), 1.0]])
        yield "well_place_error", _size(lowest(pair.place, model)[0] - there[0])
    walls = [crossing(pair.place, energy, WALL_EV) for energy in (reference, model)]
    if walls[0]:
        never = pair.place[-1] if (model > WALL_EV).all() else pair.place[0]
        yield "wall_place_error", _size((walls[1] or float(never)) - walls[0])
    far = pair.place - pair.place[0] > FAR_A
    if far.any():
        yield "far_rmse", squares(MEV_PER_EV * (model - reference)[far])


def _size(error: float) -> Float:
    return np.array([[abs(error), 1.0]])


def _parity(pairs: list[Pair], kinds: list[str]) -> View:
    """Show all binding energies below the wall."""
    both = [_binding(pair) for pair in pairs]
    soft = [reference < REPULSIVE_EV for reference, _ in both]
    sizes = [int(own.sum()) for own in soft]
    units: Names = np.repeat([pair.scan.name for pair in pairs], sizes)
    group: Names = np.repeat(kinds, sizes)
    errors = Errors(
        of="binding", units=units, config_types=group,
        reference=MEV_PER_EV * np.concatenate([one[own] for (one, _), own in zip(both, soft, strict=True)]),
        predicted=MEV_PER_EV * np.concatenate([one[own] for (_, one), own in zip(both, soft, strict=True)]),
    )  # fmt: skip
    return parity("Binding energies", Axis(quantity="binding energy", unit="meV"), errors, group)


def _view(pair: Pair) -> View:
    """Show one curve."""
    reference, model = (MEV_PER_EV * energy for energy in _binding(pair))
    return Lines(
        title=f"Curve {pair.scan.name}", x_axis=Axis(quantity="distance of the centres", unit="Å"),
        y_axis=Axis(quantity="binding energy", unit="meV"), names=("model", "reference"), x=pair.place,
        y=np.clip(np.array([model, reference]), -3.0 * SHOWN_TO_MEV, SHOWN_TO_MEV),
    )  # fmt: skip
