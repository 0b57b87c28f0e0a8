"""Which checks must find out which broken potential, and which must not: the table, and proof of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import broken
import numpy as np
import pytest
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from mlipbench.benchmarks import benchmark
from mlipbench.core.benchmark import Context, no_progress
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import by_unit
from mlipbench.core.metric import score
from mlipbench.core.model import Model
from mlipbench.errors import NotApplicable
from mlipbench.models.toy import Springs

ROWS: dict[str, dict[str, Any]] = {
    "symmetry": {"n_frames": 4},
    "consistency": {"n_frames": 4, "n_directions": 2, "n_jacobians": 1, "n_loop_points": 8},
    "reproducibility": {"n_frames": 4},
    "limits": {},
    "extensivity": {"n_molecules": 2, "distances_A": (25.0,)},
    "locality": {"n_strings": 1, "n_moved": 4, "far_A": 30.0, "length_A": 40.0},
    "smoothness": {"n_frames": 1},
    "diatomics": {"n_points": 161, "farthest_A": 8.0},
    "compression": {"n_frames": 2, "n_random": 2, "n_points": 25},
    "cohesion": {"n_frames": 2, "n_points": 20},
}
# All that a model of one kind of atom, with stress and without E0s or another precision, is asked by some rows.
EVERYTHING = {
    *(f"symmetry.{case}_{what}"
      for case in ("permutation", "rotation", "reflection", "translation", "wrap", "supercell")
      for what in ("energy", "force")),
    "symmetry.rotation_stress", "symmetry.reflection_stress",
    *(f"consistency.{name}" for name in (
        "force_gradient", "stress_strain", "jacobian_antisymmetry", "loop_work", "net_force", "net_torque")),
    *(f"reproducibility.{case}_{what}" for case in ("batch", "order") for what in ("energy", "force")),
    "limits.atom_force", "limits.atom_box",
    *(f"smoothness.{what}_jump" for what in ("energy", "force", "force_constant")),
}  # fmt: skip
OWN = {name.partition(".")[0] for name in EVERYTHING}
UNSOUND = "consistency.force_gradient", "diatomics.work_mismatch"
# calculator: checks that must fire, and checks that may, as they see the same flaw where it happens to be large enough.
# Every other check must not.
TABLE: dict[str, tuple[Callable[[], Calculator], set[str], set[str]]] = {
    "Lennard-Jones, smooth": (broken.lennard_jones, set(), set()),
    "Morse, C2": (broken.morse, set(), set()),
    "pairs, C2": (broken.Pairs, set(), set()),
    "pairs in single precision, each atom far from zero": (broken.Rounded, set(), set()),
    "forces 1 % too large, in single precision": (
        broken.RoundedWrongForces, {*UNSOUND}, {"cohesion.virial_identity"},
    ),
    "energies with 0.01 meV of scatter": (broken.Scattered, set(), set()),
    "energies with 3 meV of scatter and forces 10 % too large": (
        broken.ScatteredWrongForces, {"consistency.force_gradient"}, {"*"},  # it cannot tell
    ),
    "forces 1 % too large": (
        broken.WrongForces, {*UNSOUND}, {"cohesion.virial_identity"},
    ),
    "stress of the wrong sign": (
        broken.FlippedStress, {"consistency.stress_strain", "cohesion.virial_identity"}, set(),
    ),
    "stress 1 % too large": (
        broken.WrongStress, {"consistency.stress_strain", "cohesion.virial_identity"}, set(),
    ),
    "jump at the cutoff": (
        broken.JumpAtCutoff, {"smoothness.energy_jump"},
        # where a displacement takes an atom across the cutoff
        {"diatomics.work_mismatch", "consistency.force_gradient", "consistency.stress_strain",
         "cohesion.virial_identity"},
    ),
    "not permutation invariant": (
        broken.NumberedAtoms,
        {"symmetry.permutation_energy", "symmetry.permutation_force", "symmetry.supercell_energy"},
        {"symmetry.supercell_force", "extensivity.copies_energy", "extensivity.pair_energy", "extensivity.pair_force",
         "extensivity.copies_force", "locality.leak_force", "locality.receptive_field_force"},
    ),
    "not conservative": (
        broken.NotConservative,
        {*UNSOUND, "consistency.jacobian_antisymmetry", "consistency.loop_work", "consistency.net_force"},
        {"consistency.net_torque", "cohesion.virial_identity", "diatomics.force_flips"},
    ),
    "no attraction": (
        broken.NoAttraction, {"cohesion.unbound", "cohesion.no_minimum"}, set(),
    ),
    "collapsing wall": (
        broken.CollapsingWall,
        {"cohesion.collapse", "compression.holes", "compression.with_holes", "diatomics.collapsed"},
        {"cohesion.no_minimum", "cohesion.double_minimum", "compression.collapsed", "compression.extra_minima",
         "diatomics.tortuosity", "diatomics.spurious_minima", "diatomics.force_flips", "diatomics.repulsion_rank",
         "diatomics.attraction_rank", "diatomics.energy_jump"},
    ),
    "noise": (
        broken.Forgetful,
        {"reproducibility.order_energy", "reproducibility.order_force", "symmetry.rotation_force", "limits.atom_force"},
        {"*"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def argon() -> Dataset:
    return broken.argon()


def fired(
    calculator: Calculator, data: Dataset, rows: dict[str, dict[str, Any]] = ROWS
) -> tuple[set[str], set[str], dict[str, float]]:
    """Return the checks that fired on their worst unit, all checks that were made, and the values."""
    fire, made, values = set(), set(), {}
    model = calculator if isinstance(calculator, Model) else broken.model(calculator)
    for name, parameters in rows.items():
        row = benchmark(name)(**parameters)
        try:
            seen = row.observe(model, data, Context(seed=0, device="cpu", progress=no_progress))
        except NotApplicable:
            continue
        definition = {metric.name: metric for metric in row.about.metrics}
        for value in row.score(seen, data):
            metric, key = definition[value.metric], f"{name}.{value.metric}"
            if value.part:
                continue
            values[key] = value.value
            if metric.role in ("check", "merit"):
                made.add(key)
                each = by_unit(value.samples) if value.samples is not None else np.array([value.value])
                worst = float(each.max() if metric.better == "lower" else each.min())
                if score(metric, worst) <= 0.0:
                    fire.add(key)
    return fire, made, values


def severe(names: set[str]) -> set[str]:
    """Return those that a gate refuses a model for."""
    severity = {f"{name}.{metric.name}": metric.severity for name in ROWS for metric in benchmark(name).about.metrics}
    return {name for name in names if severity[name] in ("must", "fatal")}


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str, argon: Dataset) -> None:
    make, must, may = TABLE[name]
    fire, made, values = fired(make(), argon)
    assert {key for key in made if key.partition(".")[0] in OWN} == EVERYTHING
    assert {key.partition(".")[0] for key in made} == set(ROWS)
    assert must <= fire, f"did not fire: { ({key: values[key] for key in must - fire}) }"
    if "*" not in may:
        extra = fire - must - may
        assert not extra, f"fired: { ({key: values[key] for key in extra}) }"


def test_copper_by_emt() -> None:
    """EMT keeps every limit; the step that its neighbour list leaves at the cutoff is its own, and is seen."""
    fire, made, values = fired(EMT(), broken.argon("Cu", 3.65))
    assert not fire, {key: values[key] for key in fire}
    assert {key.partition(".")[0] for key in made} == set(ROWS) - {"cohesion"}  # a metal has no molecules
    for quantity in ("energy", "force", "force_constant"):
        assert values[f"smoothness.{quantity}_jump"] > 1e3 * values[f"smoothness.{quantity}_floor"]
    assert values["smoothness.energy_jump"] == pytest.approx(0.0092, rel=0.1)


def test_springs_have_no_wall() -> None:
    """Springs stop at a cutoff smoothly, but two atoms may be pushed into each other for an electronvolt."""
    fire, _, values = fired(Springs(), broken.argon("Cu", 3.65))
    soft = {"diatomics.collapsed", "diatomics.repulsion_rank", "diatomics.tortuosity", "compression.collapsed"}
    soft.add("compression.with_holes")
    assert fire == soft, {key: values[key] for key in fire}


def test_springs_that_never_let_go() -> None:
    """Springs between atoms by their numbers do not dissociate."""
    fire, _, values = fired(broken.Bonded(), broken.argon())
    assert {"extensivity.pair_energy", "extensivity.pair_force", "extensivity.copies_energy"} <= fire, values


def test_a_sound_potential_has_no_step() -> None:
    _, _, values = fired(broken.lennard_jones(), broken.argon())
    assert values["smoothness.energy_jump"] <= 2.0 * values["smoothness.energy_floor"]
