"""Do parts that are far from each other add up?

pair     two molecules        E(A and B) = E(A) + E(B)     forces as when alone
copies   three of a molecule  E(3 A) = 3 E(A)              forces as when alone
atoms    a molecule's atoms   E = sum of E(atom)           forces are zero

Of a model without energies, such as a descriptor, the features of every atom must be those it has in its part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Names, value_of
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.operations import random_rotation
from mlipbench.benchmarks.pieces import Piece, joined, pieces
from mlipbench.benchmarks.sites import names_sites, site_values, units_of
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

CASES: Final = {"pair": "Two molecules", "copies": "Three copies", "atoms": "Lone atoms"}
N_COPIES: Final = 3
UNITS: Final = {"energy": "meV/atom", "force": "meV/Å", "features": ""}  # features: of the norm of an atom's
SHOWN_FROM: Final = 1e-15  # figures of decades have no place for zero


def _metrics(case: str) -> tuple[Metric, ...]:
    """Return the definitions of what is left of energy, forces and features."""
    expected = "zero" if case == "atoms" else "those of the parts alone"
    at = "at the largest distance; interval over trajectories"
    return (
        Metric(
            name=f"{case}_energy", title=f"{CASES[case]}: energy", unit="meV/atom", better="lower", good=1e-6, bad=1.0,
            log_scale=True,
            says=f"root mean square over frames of the energy less that of the parts alone, per atom, {at}",
        ),
        Metric(
            name=f"{case}_force", title=f"{CASES[case]}: force", unit="meV/Å", better="lower", good=1e-5, bad=10.0,
            log_scale=True,
            says=f"root mean square over components of all atoms of the forces less {expected}, {at}",
        ),
        Metric(
            name=f"{case}_features", title=f"{CASES[case]}: features", unit="", better="lower", good=1e-10, bad=1e-4,
            log_scale=True,
            says="of models without energies: root mean square over atoms of the norm of the change of their features,"
            f" each in units of its own size, relative to the root mean square norm in molecules alone, {at}",
        ),
    )  # fmt: skip


METRICS: Final = tuple(metric for case in CASES for metric in _metrics(case))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensivity:
    """Put molecules and atoms so far apart that they should not know of each other.

    Attributes:
        n_molecules: each from another frame.
        distances_A: least distances between atoms of different parts, ascending; the last one counts.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    about: ClassVar[About] = About(
        name="extensivity",
        title="Extensivity",
        question="Do parts that are far from each other add up?",
        metrics=METRICS,
        observe_version=1,
        score_version=1,
        source="size consistency: J. A. Pople, J. S. Binkley, R. Seeger, Int. J. Quantum Chem. Symp. 10, 1 (1976)",
        grade="verification",
        seconds=2.0,
    )

    n_molecules: int = 6
    distances_A: tuple[float, ...] = (25.0, 50.0, 100.0)
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for parts alone and together at every distance; keep what does not add up.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: the model covers neither molecules nor atoms, or has no energies and sees no surroundings.
            ModelFailure: the model is at fault.
        """
        distances_A = tuple(self.distances_A)
        if not distances_A or min(distances_A) <= 0 or sorted(set(distances_A)) != list(distances_A):
            raise BadInput(f"extensivity: distances_A is {distances_A}; give positive distances in Å, ascending")
        rng = context.rng()
        alone = pieces(data, self.n_molecules, rng, lone_elements=self.lone_elements)
        try:
            found = _observe(partial(_left_over, model), alone, distances_A, rng, context)
        except NotApplicable:
            if not names_sites(model):
                raise
            units = units_of(site_values(model, [one.atoms for one in alone], context, remark="sizes of features"))
            found = _observe(partial(_features_left_over, model, units), alone, distances_A, rng, context)
        return {"distance": np.array(distances_A), **found}

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return what is left at the largest distance, and at each."""
        found = []
        for metric in METRICS:
            case, what = metric.name.split("_")
            if f"{case}_{what}" not in seen:
                continue
            trajectory: Names = np.array(data.trajectory)[seen[f"{case}_frame"]]
            units = trajectory[seen[f"{case}_{what}_group"]]
            every = seen[f"{case}_{what}_distance"]
            last = len(seen["distance"]) - 1
            parts: list[tuple[str, Bool]] = [("", every == last)]
            parts += [(f"distance={d:g} Å", every == k) for k, d in enumerate(seen["distance"].tolist())]
            rows = squares((1.0 if what == "features" else MEV_PER_EV) * seen[metric.name])
            found += [value_of(metric, rows[own], units[own], "root_mean", part=part) for part, own in parts]
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show what is left against the distance; a straight line of slope -n is a decay as its power -n."""
        values = {(value.metric, value.part): value.value for value in self.score(seen, data)}
        distances = seen["distance"].tolist()
        shown = []
        for what, unit in UNITS.items():
            cases = [case for case in CASES if f"{case}_{what}" in seen]
            if not cases:
                continue
            y = [[values[f"{case}_{what}", f"distance={d:g} Å"] for d in distances] for case in cases]
            shown.append(Lines(
                title=f"What does not add up: {what}", x_axis=Axis(quantity="distance", unit="Å", log=True),
                y_axis=Axis(quantity=f"{what} left over", unit=unit, log=True),
                names=tuple(CASES[case] for case in cases), x=np.array(distances),
                y=np.maximum(np.array(y).reshape(len(cases), len(distances)), SHOWN_FROM),
            ))  # fmt: skip
        return tuple(shown)


def _observe(
    leave: Callable[..., dict[str, Float]],
    alone: Sequence[Piece],
    distances_A: Sequence[float],
    rng: np.random.Generator,
    context: Context,
) -> dict[str, Float | Int]:
    """Return what does not add up in each case that the model covers.

    Raises:
        NotApplicable: it covers none.
    """
    seen: dict[str, Float | Int] = {}
    refusals: list[NotApplicable] = []
    for case in CASES:
        groups = _groups(case, [piece.atoms for piece in alone])
        chosen = [k for k, parts in enumerate(groups) if len(parts) > 1]
        if not chosen:
            continue
        try:
            left = leave([groups[k] for k in chosen], distances_A, rng, context, is_atoms=case == "atoms")
        except NotApplicable as refusal:
            refusals.append(refusal)
            continue
        seen |= {f"{case}_{name}": array for name, array in left.items()}
        seen[f"{case}_frame"] = np.array([alone[k].frame for k in chosen])
    if refusals and not seen:
        raise refusals[0]
    return seen


def _groups(case: str, molecules: Sequence[Atoms]) -> list[list[Atoms]]:
    """Return for each molecule the parts that are put apart; a single part where the case does not apply to it."""
    if case == "pair":
        others = [*molecules[1:], *molecules[:1]]
        return [[one, other] for one, other in zip(molecules, others, strict=True)]
    if case == "copies":
        return [[one] * N_COPIES for one in molecules]
    # The charge of an ion belongs to none of its atoms.
    return [[] if one.info.get("charge") else [_lone(one, k) for k in range(len(one))] for one in molecules]


def _lone(atoms: Atoms, row: int) -> Atoms:
    """Return one atom at the origin."""
    atom = atoms[[row]]
    atom.set_positions(np.zeros((1, 3)))
    return atom


def _left_over(
    model: Model,
    groups: Sequence[Sequence[Atoms]],
    distances_A: Sequence[float],
    rng: np.random.Generator,
    context: Context,
    *,
    is_atoms: bool,
) -> dict[str, Float]:
    """Return what does not add up, with the group and the number of the distance of every item.

    Returns:
        "energy", eV per atom, one item for each group and distance, and "force", eV/Å, one for each of their atoms.
    """
    parts = [part for parts in groups for part in parts]
    single = predict(model, parts, context, remark="parts alone")
    together = [joined(list(group), _apart(group, d, rng)) for group in groups for d in distances_A]
    said = predict(model, together, context, remark="parts together")
    first = np.concatenate([[0], np.cumsum([len(group) for group in groups])])
    energy, force = [], []
    for k in range(len(together)):
        begin, end = first[k // len(distances_A)], first[k // len(distances_A) + 1]
        energy.append((said.energy[k] - single.energy[begin:end].sum()) / said.n_atoms[k])
        expected = single.forces[single.offsets[begin] : single.offsets[end]]
        force.append(said.forces[said.offsets[k] : said.offsets[k + 1]] - (0.0 if is_atoms else expected))
    group, distance = np.divmod(np.arange(len(together)), len(distances_A))
    return {
        "energy": np.array(energy), "energy_group": group, "energy_distance": distance,
        "force": np.concatenate(force),
        "force_group": np.repeat(group, said.n_atoms), "force_distance": np.repeat(distance, said.n_atoms),
    }  # fmt: skip


def _features_left_over(
    model: Model,
    units: Float,
    groups: Sequence[Sequence[Atoms]],
    distances_A: Sequence[float],
    rng: np.random.Generator,
    context: Context,
    *,
    is_atoms: bool,
) -> dict[str, Float]:
    """Return by how much features change, as "features", one item for each atom, with its group and distance.

    Lone atoms keep theirs as molecules do, so `is_atoms` makes no difference.
    """
    change, n_atoms = [], []
    for group in groups:
        single = site_values(model, list(group), context, remark="parts alone").values
        together = [joined(list(group), _apart(group, d, rng)) for d in distances_A]
        said = site_values(model, together, context, remark="parts together").values
        change.append(np.linalg.norm((said - np.tile(single, (len(together), 1))) * units, axis=1))
        n_atoms += [len(one) for one in together]
    number, distance = np.divmod(np.arange(len(n_atoms)), len(distances_A))
    return {
        "features": np.concatenate(change),
        "features_group": np.repeat(number, n_atoms), "features_distance": np.repeat(distance, n_atoms),
    }  # fmt: skip


def _apart(parts: Sequence[Atoms], distance_A: float, rng: np.random.Generator) -> Float:
    """Return where to put parts on a cubic grid, turned at random, so that their atoms keep a distance.

    Returns:
        Shape (n_parts, 3), Å; parts are centred at the origin.
    """
    radius_A = max(float(np.linalg.norm(part.positions, axis=1).max()) for part in parts)
    edge = int(np.ceil(len(parts) ** (1 / 3) - 1e-9))
    grid = np.stack(np.unravel_index(np.arange(len(parts)), (edge,) * 3), axis=1)
    places = (grid - grid.mean(axis=0)) * (distance_A + 2.0 * radius_A)
    return np.asarray(places @ random_rotation(rng).T)
