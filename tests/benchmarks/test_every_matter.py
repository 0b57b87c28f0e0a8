"""Checks of pieces, walls and cohesion are made for matter of every kind, and right potentials pass all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import broken
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.constraints import FixAtoms

from mlipbench.benchmarks import benchmark
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import by_unit
from mlipbench.core.metric import score
from mlipbench.errors import NotApplicable

ROWS: dict[str, dict[str, Any]] = {
    "extensivity": {"n_molecules": 2},
    "locality": {"n_strings": 1, "n_moved": 3, "far_A": 30.0, "length_A": 36.0},
    "diatomics": {"n_points": 101, "max_pairs": 3},
    "compression": {"n_frames": 1, "n_random": 1, "n_points": 15},
    "cohesion": {"n_frames": 1, "n_points": 14},
}
SILICON = TersoffParameters(
    A=1830.8, B=471.18, lambda1=2.4799, lambda2=1.7322, lambda3=1.7322, beta=1.1e-6, gamma=1.0, m=3.0, n=0.78734,
    c=1.0039e5, d=16.217, h=-0.59825, R=2.85, D=0.15,
)  # fmt: skip


class Curves(Calculator):
    """Pairs of curves by elements, without a cutoff and without a cell; energy and slope of each distance."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012, as ASE has it

    def __init__(self, curve: Callable[[Any, Any, Any], tuple[Any, Any]]) -> None:
        super().__init__()
        self.curve = curve

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, changes)
        first, second = np.triu_indices(len(self.atoms), 1)
        apart = self.atoms.positions[second] - self.atoms.positions[first]
        r = np.linalg.norm(apart, axis=1)
        energy, slope = self.curve(self.atoms.numbers[first], self.atoms.numbers[second], r)
        forces = np.zeros((len(self.atoms), 3))
        pull = (slope / r)[:, None] * apart
        np.add.at(forces, first, pull)
        np.add.at(forces, second, -pull)
        self.results = {"energy": float(np.sum(energy)), "forces": forces}


def ions(first: Any, second: Any, r: Any) -> tuple[Any, Any]:
    """Li+ and F-, by Coulomb's law, with a wall: 2.0 Å and 6 eV in the pair."""
    sign = np.where(first == second, 1.0, -1.0)
    return 14.399645 * sign / r + 500.0 * np.exp(-r / 0.3), -14.399645 * sign / r**2 - 500.0 / 0.3 * np.exp(-r / 0.3)


def london(first: Any, second: Any, r: Any) -> tuple[Any, Any]:
    """Lennard-Jones to the end."""
    s = (3.4 / r) ** 6
    return 0.04 * (s**2 - s), 0.04 * (6 * s - 12 * s**2) / r


def morse(first: Any, second: Any, r: Any) -> tuple[Any, Any]:
    """Bonds of hydrogen to others, and walls between the others."""
    bond = (first == 1) != (second == 1)
    e = np.exp(-2.2 * (r - 0.97))
    wall = 300.0 * np.exp(-r / 0.25)
    return np.where(bond, 4.5 * (e**2 - 2 * e), wall), np.where(bond, -2.2 * 9.0 * (e**2 - e), -wall / 0.25)


def data_of(frames: list[Atoms], **named: Any) -> Dataset:
    n_atoms = sum(len(atoms) for atoms in frames)
    names = tuple(f"one-{k}" for k in range(len(frames)))
    elements = tuple(sorted({symbol for atoms in frames for symbol in atoms.symbols}))
    base = broken.argon(n=1)
    return replace(
        base, spec=replace(base.spec, elements=elements), frames=tuple(frames), uid=names, trajectory=names,
        config_type=names, energy=np.zeros(len(frames)), forces=np.zeros((n_atoms, 3)),
        stress=np.zeros((len(frames), 3, 3)), has_stress=np.zeros(len(frames), dtype=bool), **named,
    )  # fmt: skip


def shaken(atoms: Atoms, by_A: float = 0.08) -> Atoms:
    atoms.rattle(by_A, seed=1)
    return atoms


def slab() -> Atoms:
    atoms = fcc111("Cu", (3, 3, 3), a=3.6, vacuum=6.0)
    atoms.set_pbc([True, True, False])
    shaken(atoms, 0.05)
    atoms.set_constraint(FixAtoms(range(9)))
    return atoms


def drop(n: int, spacing_A: float = 3.8) -> Atoms:
    return shaken(Atoms(f"Ar{n**3}", spacing_A * np.stack(np.unravel_index(np.arange(n**3), (n,) * 3), axis=1)))


def triple() -> Atoms:
    return Atoms("FLiF", [[-1.9, 0.2, 0], [0, 0, 0], [1.9, 0, 0.1]], info={"charge": -1})


class Whole(Tersoff):
    """ASE's raises for an atom with a single neighbour, whose bond has no angle: 0 to a negative power, times 0."""

    def _calc_bij_d(self, zeta: float, beta: float, n: float) -> float:
        return float(super()._calc_bij_d(zeta, beta, n)) if zeta > 0.0 else 0.0


def tersoff() -> Calculator:
    return Whole({("Si", "Si", "Si"): SILICON})


def as_ase_has_it() -> Calculator:
    return Tersoff({("Si", "Si", "Si"): SILICON})


MATTER: dict[str, tuple[Callable[[], Calculator], Callable[[], Dataset]]] = {
    "silicon, 64 atoms": (tersoff, lambda: data_of([shaken(bulk("Si", cubic=True) * (2, 2, 2))])),
    "silicon at rest": (tersoff, lambda: data_of([bulk("Si", a=5.432)])),
    "a slab with fixed atoms": (EMT, lambda: data_of([slab()])),
    "a drop, London to the end": (lambda: Curves(london), lambda: data_of([drop(5)])),
    "a liquid of many atoms": (broken.Pairs, lambda: data_of([shaken(bulk("Ar", "fcc", 5.5, cubic=True) * (3, 3, 3))])),
    "one molecule": (lambda: Curves(morse), lambda: data_of([shaken(molecule("H2O"), 0.03), molecule("H2O")])),
    "ions without names": (lambda: Curves(ions), lambda: data_of([triple()])),
    "ions with charges": (lambda: Curves(ions), lambda: data_of([triple()], molecule_charges=((-1, 1, -1),))),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", MATTER)
def test_right_potentials_pass(name: str, row: str, context: Context) -> None:
    make, data_for = MATTER[name]
    data, made = data_for(), benchmark(row)(**ROWS[row])
    seen = made.observe(broken.model(make()), data, context)
    defined = {metric.name: metric for metric in made.about.metrics}
    judged = [value for value in made.score(seen, data) if not value.part and defined[value.metric].role == "check"]
    assert judged
    for value in judged:
        metric = defined[value.metric]
        if metric.severity == "good to know" and name == "one molecule":
            continue  # this potential knows nothing but its molecule
        assert value.samples is not None
        worst = by_unit(value.samples)
        worst = worst.max() if metric.better == "lower" else worst.min()
        assert score(metric, float(worst)) > 0.0, (value.metric, value.value)
        assert not value.failed


@pytest.mark.parametrize("row", ["compression", "cohesion"])
def test_a_calculator_that_fails_on_pieces_keeps_its_crystal(row: str, context: Context) -> None:
    data, made = data_of([shaken(bulk("Si", cubic=True))]), benchmark(row)(**ROWS[row])
    found = {
        value.metric: value
        for value in made.score(made.observe(broken.model(as_ase_has_it()), data, context), data)
        if not value.part
    }
    for metric in made.about.metrics:
        if metric.name in found and metric.severity != "good to know":
            assert score(metric, found[metric.name].value) > 0.0, metric.name
            assert not found[metric.name].failed


class NeedsCell(broken.Pairs):
    """Divides by the volume, as many do."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        if not self.atoms.pbc.all():
            raise ZeroDivisionError("volume")


@pytest.mark.parametrize("row", ROWS)
def test_a_calculator_that_needs_a_cell_gets_one(row: str, context: Context) -> None:
    data, made = broken.argon(n=1), benchmark(row)(**ROWS[row])
    ours, free = (
        {value.metric: value.value for value in made.score(made.observe(broken.model(one), data, context), data)}
        for one in (NeedsCell(), broken.Pairs())
    )
    assert set(ours) == set(free)
    for metric in made.about.metrics:
        if metric.role == "check" and metric.name in ours:
            assert score(metric, ours[metric.name]) > 0.0, metric.name


@pytest.mark.parametrize("row", ["compression", "cohesion"])
def test_lone_atoms_are_nothing_to_squeeze(row: str, context: Context) -> None:
    data = data_of([Atoms("Ar")])
    made = benchmark(row)(**(ROWS[row] | ({"n_random": 0} if row == "compression" else {})))
    with pytest.raises(NotApplicable, match="only lone atoms"):
        made.observe(broken.model(broken.Pairs()), data, context)
