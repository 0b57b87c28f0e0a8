"""Which checks must find out which broken potential, and which must not: the table, and proof of it."""

from __future__ import annotations

from collections.abc import Callable

import broken
import pytest
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from checks import ROWS, fired, severe

from mlipbench.core.dataset import Dataset
from mlipbench.models.toy import Springs

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
         "extensivity.copies_force", "locality.leak_force", "locality.decay_force"},
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
        {"cohesion.collapse_farther", "compression.holes", "compression.with_holes", "diatomics.collapsed"},
        {"cohesion.collapse", "cohesion.no_minimum", "cohesion.double_minimum", "compression.collapsed",
         "compression.extra_minima", "diatomics.tortuosity", "diatomics.spurious_minima", "diatomics.force_flips",
         "diatomics.repulsion_rank",
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
    assert {key.partition(".")[0] for key in made} == set(ROWS)
    assert "cohesion.unbound" not in made  # a metal has no molecules
    for quantity in ("energy", "force", "force_constant"):
        assert values[f"smoothness.{quantity}_jump"] > 1e3 * values[f"smoothness.{quantity}_floor"]
    assert values["smoothness.energy_jump"] == pytest.approx(0.0092, rel=0.1)


def test_springs_have_no_wall() -> None:
    """Springs stop at a cutoff smoothly, but two atoms may be pushed into each other for an electronvolt."""
    fire, _, values = fired(Springs(), broken.argon("Cu", 3.65))
    assert {"diatomics.collapsed", "cohesion.collapse"} <= severe(fire), {key: values[key] for key in fire}
    assert {key.partition(".")[0] for key in fire} == {"diatomics", "compression", "cohesion"}


def test_springs_that_never_let_go() -> None:
    """Springs between atoms by their numbers do not dissociate."""
    fire, _, values = fired(broken.Bonded(), broken.argon())
    assert {"extensivity.pair_energy", "extensivity.pair_force", "extensivity.copies_energy"} <= fire, values


def test_a_sound_potential_has_no_step() -> None:
    _, _, values = fired(broken.lennard_jones(), broken.argon())
    assert values["smoothness.energy_jump"] <= 2.0 * values["smoothness.energy_floor"]
