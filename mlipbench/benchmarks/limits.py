"""What does a model say of a single atom?

force    on a lone atom, without a cell and in wide ones: zero
box      the energy of a lone atom, in a wide cell and without one: the same
energy   of a lone atom: what the model itself says it is, where it says so

That molecules far apart, and atoms far apart, add up is asked by `extensivity`; how far an atom sees by `locality`;
what happens at the cutoff by `smoothness`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Names, value_of
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.systems import as_numbers, as_texts, left_out_view
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue, Severity
from mlipbench.core.model import AtomEnergies, Float, Int, Model, Predictions
from mlipbench.core.view import Axis, Bars, View
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms


def _metric(name: str, title: str, unit: str, says: str, severity: Severity = "good to know") -> Metric:
    """Return the definition of one deviation.

    A charged atom and its images, or energies stated for another reference state, may well differ: no reason to refuse.
    """
    return Metric(
        name=name, title=title, unit=unit, better="lower", good=1e-4, bad=1.0, log_scale=True,
        role="check", severity=severity,
        says=f"root mean square over elements of {says}; interval over elements",
    )  # fmt: skip


METRICS: Final = (
    _metric(
        "atom_force", "Lone atom: force", "meV/Å", "the force on a lone atom, without a cell and in wide ones", "must"
    ),
    _metric("atom_box", "Lone atom: box", "meV", "the energy of a lone atom in wide cells less that without a cell"),
    _metric("atom_energy", "Lone atom: energy", "meV", "the energy of a lone atom less what the model says it is"),
)
DEFINED: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Ask for one atom of each element of the data that the model covers.

    Attributes:
        edges_A: of the cubic cells that the atom is put into.
    """

    about: ClassVar[About] = About(
        name="limits",
        title="Lone atoms",
        question="Has a lone atom its own energy and no force?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="an atom on its own feels nothing; its energy is the constant that interactions are added to",
        grade="verification",
        seconds=1.0,
    )

    edges_A: tuple[float, ...] = (20.0, 31.0)

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for each lone atom, without a cell and in each cell.

        Raises:
            BadInput: a cell is too small.
            NotApplicable: the model covers no lone atom.
            ModelFailure: the model is at fault.
        """
        edges_A = tuple(self.edges_A)
        if not edges_A or min(edges_A) < 15.0:
            raise BadInput(f"limits: edges_A is {list(edges_A)}; give edges of 15 Å or more, so that images are far")
        numbers = np.unique(data.numbers).tolist()
        seen = self._asked(model, numbers, edges_A, context)
        if isinstance(model, AtomEnergies):
            told = {symbol: float(value) for symbol, value in model.atom_energies().items()}
            known = [k for k, symbol in enumerate(_symbols(seen)) if symbol in told]
            seen["told_item"] = np.array(known, dtype=np.int64)
            seen["told"] = np.array([told[_symbols(seen)[k]] for k in known])
            if not np.isfinite(seen["told"]).all():
                raise ModelFailure("the model states energies of lone atoms that are not finite")
        return seen

    def _asked(
        self, model: Model, numbers: list[int], edges_A: tuple[float, ...], context: Context
    ) -> dict[str, Float | Int]:
        """Ask for each element; a model that answers in cells only is asked for those."""
        found: dict[int, Predictions] = {}
        failed: dict[int, str] = {}
        refusals: list[NotApplicable] = []
        for number in numbers:
            frames = lone(number, edges_A)
            try:
                found[number] = _lone_or_boxed(model, frames, context)
            except NotApplicable as refusal:
                refusals.append(refusal)
            except ModelFailure as failure:
                failed[number] = str(failure)
        if not found:
            if failed:
                raise ModelFailure(next(iter(failed.values())))
            raise refusals[0]
        return {
            "number": np.array(list(found)), "failed": np.array(list(failed), dtype=np.int64),
            "reason": as_numbers(list(failed.values())), "n_elements": np.array([len(numbers)]),
            "energy": np.array([said.energy for said in found.values()]),
            "force": np.array([said.forces for said in found.values()]),
        }  # fmt: skip

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return how far lone atoms are from what they should be."""
        units: Names = np.array(_symbols(seen))
        energy = MEV_PER_EV * seen["energy"]
        left = {"atom_force": MEV_PER_EV * seen["force"], "atom_box": energy[:, 1:] - energy[:, :1]}
        found = [value_of(DEFINED[name], squares(values), units, "root_mean") for name, values in left.items()]
        if "told" in seen and len(seen["told"]):
            own = seen["told_item"]
            wrong = energy[own, :1] - MEV_PER_EV * seen["told"][:, None]
            found.append(value_of(DEFINED["atom_energy"], squares(wrong), units[own], "root_mean"))
        failed = tuple(_names(seen["failed"]))
        return tuple(replace(value, failed=failed, n_all=int(seen["n_elements"][0])) for value in found)

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return what every model of lone atoms has; a model of molecules alone does not apply at all."""
        return ("atom_force", "atom_box") if len(data) else ()

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the energies of lone atoms, and what was not answered."""
        values = seen["energy"][:, 0]
        labels = tuple(_symbols(seen))
        axis = Axis(quantity="energy", unit="eV")
        shown = Bars(title="Energies of lone atoms", axis=axis, labels=labels, values=values, low=values, high=values)
        reasons = as_texts(seen["reason"])
        return (shown, *left_out_view("Elements", _names(seen["failed"]), reasons, n_used=len(labels)))


def _lone_or_boxed(model: Model, frames: list[Atoms], context: Context) -> Predictions:
    """Ask for an atom without a cell and in each cell; the first cell stands for none where that is not answered."""
    try:
        return predict(model, frames, context, remark="lone atoms")
    except ModelFailure:
        return predict(model, [frames[1], *frames[1:]], context, remark="lone atoms in cells")


def lone(number: int, edges_A: tuple[float, ...]) -> list[Atoms]:
    """Return an atom without a cell, and in cubic cells, not at their corners."""
    from ase import Atoms

    place = np.array([[0.3, 0.4, 0.6]])
    boxed = [Atoms(numbers=[number], positions=place * edge, cell=[edge] * 3, pbc=True) for edge in edges_A]
    return [Atoms(numbers=[number], positions=place), *boxed]


def _symbols(seen: Observation) -> list[str]:
    """Return the symbols of the atoms that were answered."""
    return _names(seen["number"])


def _names(numbers: Int) -> list[str]:
    """Return the symbols of atomic numbers."""
    from ase.data import chemical_symbols

    return [chemical_symbols[number] for number in numbers.tolist()]
