"""Right models of every kind of matter fail no check that a gate refuses them for, and wrong ones do.

The table of `test_verification_table.py` is of argon; this one is of crystals at rest and shaken, covalent ones, ions,
molecules, liquids, slabs with fixed atoms and charges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

pytest.importorskip("torch")

import sound
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from checks import ROWS, fired, severe

from mlipbench.core.dataset import Dataset

SYMMETRY: dict[str, Any] = {"n_frames": 3}
CONSISTENCY: dict[str, Any] = {"n_frames": 3, "n_directions": 1, "n_jacobians": 1, "n_loop_points": 12}
SMOOTHNESS: dict[str, Any] = {"n_frames": 1, "max_pairs": 1, "n_points": 41, "n_suspects": 1}
SMALL = {
    **ROWS, "extensivity": {"n_molecules": 2}, "diatomics": {}, "symmetry": SYMMETRY, "consistency": CONSISTENCY, "smoothness": SMOOTHNESS,
    "compression": {"n_frames": 1, "n_random": 1, "n_points": 15}, "cohesion": {"n_frames": 1, "n_points": 15},
}  # fmt: skip
QUICK = {name: SMALL[name] for name in SMALL if name != "smoothness"}  # which takes longest
LARGE = {name: SMALL[name] for name in ("symmetry", "consistency", "reproducibility")}


@dataclass(frozen=True)
class System:
    """A right calculator, frames that it is right for, and the rows that it is asked."""

    make: Callable[[], Calculator]
    frames: Callable[[], list[Atoms]]
    rows: dict[str, dict[str, Any]] = field(default_factory=lambda: SMALL)


SYSTEMS = {
    "silicon, Tersoff": System(lambda: sound.Tersoff("Si"), sound.silicon),
    "diamond, Tersoff": System(lambda: sound.Tersoff("C"), sound.diamond, LARGE),
    "64 silicon atoms": System(lambda: sound.Tersoff("Si"), sound.silicon_64, LARGE),
    "lithium fluoride, Ewald": System(sound.Ions, sound.lithium_fluoride, QUICK),
    "argon with all of its tail": System(sound.FarReaching, sound.argon, QUICK),
    "64 water molecules": System(sound.Bonding, sound.water_64, LARGE),
    "ammonium, charged": System(sound.Ammonium, sound.ammonium),
    "copper slab with fixed atoms, EMT": System(EMT, sound.copper_slab, QUICK),
}
try:
    import openmm  # noqa: F401
except ImportError:
    pass
else:
    SYSTEMS["carbonates, GAFF2"] = System(sound.gaff2, sound.carbonates, LARGE)
    grid = {"symmetry": {"n_frames": 1}}
    SYSTEMS["liquid carbonates, GAFF2"] = System(lambda: sound.gaff2(1e-4), sound.carbonate_liquid, grid)
PERIODIC = ("silicon, Tersoff", "64 silicon atoms", "lithium fluoride, Ewald", "64 water molecules")


@cache
def case(name: str) -> tuple[sound.Remembered, Dataset]:
    """The system's calculator, which remembers what it said, and its labelled frames."""
    right = sound.Remembered(SYSTEMS[name].make())
    return right, sound.labelled(SYSTEMS[name].frames(), right)


@pytest.mark.parametrize("name", SYSTEMS)
def test_right_ones_fail_nothing(name: str) -> None:
    right, data = case(name)
    fire, made, values = fired(right, data, SYSTEMS[name].rows)
    failed = severe(fire)
    assert not failed, {key: values[key] for key in failed}
    rows = set(SYSTEMS[name].rows) - {"cohesion"}
    assert {key.partition(".")[0] for key in made} >= rows, "a row was not made"
    wanted = {"consistency.force_gradient", "symmetry.rotation_force", "reproducibility.order_force"}
    if name in PERIODIC:
        wanted |= {"consistency.stress_strain", "symmetry.wrap_force", "symmetry.supercell_energy"}
    assert {key for key in wanted if key.partition(".")[0] in rows} <= made


Wrong = tuple[Callable[[sound.Remembered, Dataset], Calculator], str, set[str], tuple[str, ...]]
MOST = ("silicon, Tersoff", "diamond, Tersoff", "lithium fluoride, Ewald", "ammonium, charged",
        "copper slab with fixed atoms, EMT", "64 water molecules")  # fmt: skip
WRONG: dict[str, Wrong] = {
    "forces 1 % too large": (
        lambda right, _: sound.Spoilt(right, sound.times("forces", 1.01)),
        "consistency", {"consistency.force_gradient"}, MOST,
    ),
    "forces 3 % too large": (
        lambda right, _: sound.Spoilt(right, sound.times("forces", 1.03)),
        "consistency", {"consistency.force_gradient"}, MOST,
    ),
    "forces with 1 % of noise": (
        lambda right, _: sound.Spoilt(right, sound.noisy_forces),
        "reproducibility", {"reproducibility.order_force"}, MOST,
    ),
    **{
        f"stress times {factor:g}": (
            lambda right, _, factor=factor: sound.Spoilt(right, sound.times("stress", factor)),
            "consistency", {"consistency.stress_strain"}, PERIODIC,
        )
        for factor in (-1.0, 1.3, 1.01)
    },
    "no potential behind the forces": (
        lambda right, _: sound.Spoilt(right, sound.by_crowding),
        "consistency", {"consistency.force_gradient"}, MOST[:-1],
    ),
    "depends on the order of atoms": (
        lambda right, _: sound.Spoilt(right, sound.by_place_in_the_list),
        "symmetry", {"symmetry.permutation_energy"}, MOST,
    ),
    "ignores the cell": (
        lambda right, _: sound.IgnoresTheCell(right),
        "symmetry", {"symmetry.wrap_energy", "symmetry.supercell_energy"},
        ("silicon, Tersoff", "diamond, Tersoff", "64 silicon atoms", "copper slab with fixed atoms, EMT",
         "lithium fluoride, Ewald", "64 water molecules"),
    ),
    "knows the labels by heart": (
        lambda _, data: sound.LookUp(data),
        "symmetry", {"symmetry.permutation_energy", "symmetry.rotation_energy", "symmetry.translation_energy"}, MOST,
    ),
    "knows the labels by heart, and no slopes": (
        lambda _, data: sound.LookUp(data), "consistency", {"consistency.force_gradient"}, MOST,
    ),
    "a step at 5 Å": (
        lambda right, _: sound.Spoilt(right, sound.step_at_5_A),
        "smoothness", {"smoothness.energy_jump"}, ("silicon, Tersoff", "ammonium, charged"),
    ),
    "a hole in the wall, two atoms": (
        lambda right, _: sound.Spoilt(right, sound.deep_hole),
        "diatomics", {"diatomics.collapsed"}, ("silicon, Tersoff", "lithium fluoride, Ewald"),
    ),
    **{
        f"a wall that gives way at {edge_A:g} Å": (
            lambda right, _, edge_A=edge_A: sound.Spoilt(right, sound.gives_way(edge_A)),
            "compression", {"compression.with_holes_in_reach"}, (name,),
        )
        for name, edge_A in (
            ("silicon, Tersoff", 2.12), ("lithium fluoride, Ewald", 1.82), ("copper slab with fixed atoms, EMT", 2.3)
        )
    },
    "no attraction": (
        lambda *_: sound.NoAttraction(), "cohesion", {"cohesion.unbound"}, ("argon with all of its tail",),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "name"), [(wrong, name) for wrong, entry in WRONG.items() for name in entry[3]])
def test_wrong_ones_are_found_out(wrong: str, name: str) -> None:
    make, row, must, _ = WRONG[wrong]
    right, data = case(name)
    fire, _, values = fired(make(right, data), data, {row: SMALL[row]})
    assert must <= severe(fire), f"did not fire: {values}"
