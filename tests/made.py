"""Small data with known labels: springs label them, so springs must be right and everything else wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule

from mlipbench.models.toy import Springs

SUITE = """\
schema = 1
version = "1"
about = "two rows for tests"
models = ["mlipbench.models.toy:Springs"]

[[rows]]
name = "errors"
benchmark = "energy_force_stress"
data = "{data}"
split = "test"
time_limit_s = 60.0
limits = [{{ metric = "force_rmse", at_most = 1.0 }}]

[[rows]]
name = "rigid"
benchmark = "rigid_body_forces"
data = "{data}"
split = "test"
time_limit_s = 60.0
"""

MANIFEST = """\
schema = 1
name = "tiny"
level_of_theory = "springs"
[[files]]
path = "frames.xyz"
"""


def labelled(n_frames: int = 8, *, seed: int = 0) -> list[Atoms]:
    """Return water clusters and boxes with spring labels, four trajectories, half of them in split "test"."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(n_frames):
        waters = [molecule("H2O") for _ in range(2)]
        waters[1].translate([0.0, 0.0, 3.1])
        atoms = waters[0] + waters[1]
        if number % 2:
            atoms.set_cell([6.0, 6.5, 7.0])
            atoms.pbc = True
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = Springs()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if atoms.pbc.all():
            atoms.info["REF_stress"] = atoms.get_stress()
        atoms.calc = None
        atoms.info |= {"REF_energy": results["energy"], "trajectory": f"t{number % 4}", "config_type": "water"}
        atoms.info["splits"] = "train" if number % 4 < 2 else "test"
        atoms.arrays["REF_forces"] = results["forces"]
        atoms.arrays["molecule"] = np.array([0, 0, 0, 1, 1, 1])
        frames.append(atoms)
    return frames


RECIPE = """\
schema = 1
[spec]
name = "tiny-ace"
kind = "ace"
[recipe]
trainer = "ace"
data = "{data}"
train = "train"
valid = "test"
[recipe.options]
cutoff_A = 3.0
degrees = {{ nu1 = 3, nu2 = 2 }}
l_max = 1
"""


def recipe(data: Path, folder: Path) -> str:
    """Write the recipe of a very small linear ACE, and return its path."""
    path = folder / "tiny-ace.toml"
    path.write_text(RECIPE.format(data=data), encoding="utf-8")
    return str(path)
