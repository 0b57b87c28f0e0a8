"""Do parts that are far from each other add up?

pair     two molecules        E(A and B) = E(A) + E(B)     forces as when alone
copies   three of a molecule  E(3 A) = 3 E(A)              forces as when alone
atoms    a molecule's atoms   E = sum of E(atom)           forces are zero

What does not add up is taken at infinite distance: interactions decay as powers of the distance (charges as the first,
charges and dipoles as the second, dipoles as the third), and what is left when these are taken off is no interaction.

Of a model without energies, such as a descriptor, the features of every atom must be those it has in its part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.asking import all_or_each, limit_weights, predict_pieces
from mlipbench.benchmarks.comparison import Names, value_of
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.operations import random_rotation
from mlipbench.benchmarks.pieces import Piece, joined, pieces
from mlipbench.benchmarks.sites import names_sites, site_values, units_of
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue, Severity
from mlipbench.core.model import Float, Int, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput, MlipbenchError, ModelFailure, NotApplicable
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
    at = "extrapolated to infinite distance, so that charges may feel each other; interval over trajectories"
    severity: Severity = "good to know" if case == "atoms" else "must"
    return (
        Metric(
            name=f"{case}_energy", title=f"{CASES[case]}: energy", unit="meV/atom", better="lower", good=1e-6, bad=1.0,
            log_scale=True, role="check", severity=severity,
            says=f"root mean square over frames of the energy less that of the parts alone, per atom, {at}",
        ),
        Metric(
            name=f"{case}_force", title=f"{CASES[case]}: force", unit="meV/Å", better="lower", good=1e-5, bad=10.0,
            log_scale=True, role="check", severity=severity,
            says=f"root mean square over components of all atoms of the forces less {expected}, {at}",
        ),
        Metric(
            name=f"{case}_features", title=f"{CASES[case]}: features", unit="", better="lower", good=1e-10, bad=1e-4,
            log_scale=True, role="check", severity="good to know",
            says="of models without energies: root mean square over atoms of the norm of the change of their features,"
            " each in units of its own size, relative to the root mean square norm in molecules alone, at the largest"
            " distance; interval over trajectories",
        ),
    )  # fmt: skip


METRICS: Final = tuple(metric for case in CASES for metric in _metrics(case))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensivity:
    """Put molecules and atoms so far apart that they should not know of each other.

    Attributes:
        n_molecules: each from another frame.
        distances_A: least distances between atoms of different parts, ascending; three take off what decays as the
            first and second power.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    about: ClassVar[About] = About(
        name="extensivity",
        title="Extensivity",
        question="Do parts that are far from each other add up?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="size consistency: J. A. Pople, J. S. Binkley, R. Seeger, Int. J. Quantum Chem. Symp. 10, 1 (1976);"
        " powers of the distance: A. J. Stone, The Theory of Intermolecular Forces (2013), chapter 3",
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
        """Return what is left at infinite distance, and at each."""
        found = []
        for metric in METRICS:
            case, what = metric.name.split("_")
            if f"{case}_{what}" not in seen:
                continue
            trajectory: Names = np.array(data.trajectory)[seen[f"{case}_frame"]]
            failed = tuple(np.array(data.trajectory)[seen[f"{case}_failed"]].tolist())
            factor = 1.0 if what == "features" else MEV_PER_EV
            left = seen.get(f"{case}_{what}_limit", seen[metric.name])
            group, every = seen[f"{case}_{what}_group"], seen[f"{case}_{what}_distance"]
            last = every == len(seen["distance"]) - 1
            if f"{case}_{what}_limit" not in seen:
                left = left[last]
            whole = value_of(metric, squares(factor * left), trajectory[group[last]], "root_mean")
            found.append(replace(whole, failed=failed, n_all=whole.n + len(set(failed))))
            rows = squares(factor * seen[metric.name])
            for k, d in enumerate(seen["distance"].tolist()):
                own = every == k
                found.append(value_of(metric, rows[own], trajectory[group[own]], "root_mean", part=f"distance={d:g} Å"))
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
    leave: Callable[..., list[dict[str, Float]]],
    alone: Sequence[Piece],
    distances_A: Sequence[float],
    rng: np.random.Generator,
    context: Context,
) -> dict[str, Float | Int]:
    """Return what does not add up in each case that the model covers, and the frames of which it does not answer.

    Raises:
        NotApplicable: it covers none.
        ModelFailure: it fails on all molecules.
    """
    seen: dict[str, Float | Int] = {}
    refusals: list[MlipbenchError] = []
    for case in CASES:
        groups = [_together(parts, distances_A, rng) for parts in _groups(case, [piece.atoms for piece in alone])]
        chosen = [k for k, group in enumerate(groups) if len(group.parts) > 1]
        if not chosen:
            continue
        try:
            asked = partial(leave, context=context, is_atoms=case == "atoms")
            answers = all_or_each(asked, [groups[k] for k in chosen])
        except NotApplicable as refusal:
            refusals.append(refusal)
            continue
        answered = [(k, one) for k, one in zip(chosen, answers, strict=True) if not isinstance(one, ModelFailure)]
        if not answered:
            refusals += [one for one in answers if isinstance(one, ModelFailure)]
            continue
        for name in answered[0][1]:
            parts = [one[name] for _, one in answered]
            seen[f"{case}_{name}"] = np.concatenate(parts)
            if not name.endswith(("_distance", "_limit")):
                seen[f"{case}_{name}_group"] = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        seen[f"{case}_frame"] = np.array([alone[k].frame for k, _ in answered])
        lost = [alone[k].frame for k, one in zip(chosen, answers, strict=True) if isinstance(one, ModelFailure)]
        seen[f"{case}_failed"] = np.array(lost, dtype=np.int64)
    whole = any(f"{case}_frame" in seen for case in ("pair", "copies"))
    fatal = [one for one in refusals if isinstance(one, ModelFailure)]
    if refusals and not whole and (fatal or not seen):
        raise (fatal or refusals)[0]
    return seen


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Parts, and all of them together at each distance, in one orientation.

    Attributes:
        parts: each alone.
        together: one frame for each distance.
        centre_distances_A: between centres of neighbouring parts, shape (n_distances,).
    """

    parts: list[Atoms]
    together: list[Atoms]
    centre_distances_A: Float


def _together(parts: list[Atoms], distances_A: Sequence[float], rng: np.random.Generator) -> _Group:
    """Put parts on a cubic grid, turned at random, so that their atoms keep each distance."""
    if len(parts) < 2:
        return _Group(parts=parts, together=[], centre_distances_A=np.zeros(0))
    radius_A = max(float(np.linalg.norm(part.positions, axis=1).max()) for part in parts)
    edge = int(np.ceil(len(parts) ** (1 / 3) - 1e-9))
    grid = np.stack(np.unravel_index(np.arange(len(parts)), (edge,) * 3), axis=1)
    places = (grid - grid.mean(axis=0)) @ random_rotation(rng).T
    apart_A = np.array(distances_A) + 2.0 * radius_A
    together = [joined(parts, places * d) for d in apart_A.tolist()]
    return _Group(parts=parts, together=together, centre_distances_A=apart_A)


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


def _left_over(model: Model, groups: Sequence[_Group], *, context: Context, is_atoms: bool) -> list[dict[str, Float]]:
    """Return what does not add up of each group, with the number of the distance of every item.

    Returns:
        "energy", eV per atom, one item for each distance, and "force", eV/Å, one for each atom at each; with "_limit",
        the same at infinite distance.
    """
    frames = [atoms for group in groups for atoms in (*group.parts, *group.together)]
    said = predict_pieces(model, frames, context, remark="parts alone and together")
    found, first = [], 0
    for group in groups:
        middle, end = first + len(group.parts), first + len(group.parts) + len(group.together)
        n_atoms = int(said.n_atoms[middle])
        energy = (said.energy[middle:end] - said.energy[first:middle].sum()) / n_atoms
        alone = said.forces[said.offsets[first] : said.offsets[middle]]
        force = said.forces[said.offsets[middle] : said.offsets[end]].reshape(-1, n_atoms, 3)
        force = force - (0.0 if is_atoms else alone)
        weights, number = limit_weights(1.0 / group.centre_distances_A), np.arange(end - middle)
        found.append({
            "energy": energy, "energy_distance": number, "energy_limit": np.array([weights @ energy]),
            "force": force.reshape(-1, 3), "force_distance": np.repeat(number, n_atoms),
            "force_limit": np.tensordot(weights, force, axes=1),
        })  # fmt: skip
        first = end
    return found


def _features_left_over(
    model: Model, units: Float, groups: Sequence[_Group], *, context: Context, is_atoms: bool
) -> list[dict[str, Float]]:
    """Return by how much features change, as "features", one item for each atom at each distance.

    Lone atoms keep theirs as molecules do, so `is_atoms` makes no difference.
    """
    found = []
    for group in groups:
        single = site_values(model, group.parts, context, remark="parts alone").values
        said = site_values(model, group.together, context, remark="parts together").values
        change = np.linalg.norm((said - np.tile(single, (len(group.together), 1))) * units, axis=1)
        distance = np.repeat(np.arange(len(group.together)), len(single))
        found.append({"features": change, "features_distance": distance})
    return found
