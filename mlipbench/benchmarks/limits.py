"""What does a model say of a single atom?

force    on a lone atom, without a cell and in wide ones: zero
box      the energy of a lone atom, in a wide cell and without one: the same
energy   of a lone atom: what the model itself says it is, where it says so

That molecules far apart, and atoms far apart, add up is asked by `extensivity`; how far an atom sees by `locality`;
what happens at the cutoff by `smoothness`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Names, value_of
from mlipbench.benchmarks.frames import predict
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import AtomEnergies, Model
from mlipbench.core.view import Axis, Bars, View
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms


def _metric(name: str, title: str, unit: str, says: str) -> Metric:
    """Return the definition of one deviation."""
    return Metric(
        name=name, title=title, unit=unit, better="lower", good=1e-4, bad=1.0, log_scale=True,
        says=f"root mean square over elements of {says}; interval over elements",
    )  # fmt: skip


METRICS: Final = (
    _metric("atom_force", "Lone atom: force", "meV/Å", "the force on a lone atom, without a cell and in wide ones"),
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
        observe_version=1,
        score_version=1,
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
        numbers, energy, force = [], [], []
        refusals: list[NotApplicable] = []
        for number in np.unique(data.numbers).tolist():
            try:
                said = predict(model, lone(number, edges_A), context, remark="lone atoms")
            except NotApplicable as refusal:
                refusals.append(refusal)
                continue
            numbers.append(number)
            energy.append(said.energy)
            force.append(said.forces)
        if not numbers:
            raise refusals[0]
        seen = {"number": np.array(numbers), "energy": np.array(energy), "force": np.array(force)}
        if isinstance(model, AtomEnergies):
            told = {symbol: float(value) for symbol, value in model.atom_energies().items()}
            known = [k for k, symbol in enumerate(_symbols(seen)) if symbol in told]
            seen["told_item"] = np.array(known, dtype=np.int64)
            seen["told"] = np.array([told[_symbols(seen)[k]] for k in known])
            if not np.isfinite(seen["told"]).all():
                raise ModelFailure("the model states energies of lone atoms that are not finite")
        return seen

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
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the energies of lone atoms."""
        values = seen["energy"][:, 0]
        labels = tuple(_symbols(seen))
        axis = Axis(quantity="energy", unit="eV")
        return (Bars(title="Energies of lone atoms", axis=axis, labels=labels, values=values, low=values, high=values),)


def lone(number: int, edges_A: tuple[float, ...]) -> list[Atoms]:
    """Return an atom without a cell, and in cubic cells, not at their corners."""
    from ase import Atoms

    place = np.array([[0.3, 0.4, 0.6]])
    boxed = [Atoms(numbers=[number], positions=place * edge, cell=[edge] * 3, pbc=True) for edge in edges_A]
    return [Atoms(numbers=[number], positions=place), *boxed]


def _symbols(seen: Observation) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[number] for number in seen["number"].tolist()]
