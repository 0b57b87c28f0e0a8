"""Does the generator make the data set it promises?"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openmm")
pytest.importorskip("tblite")
pytest.importorskip("packmol")

from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.data import covalent_radii

from mlipbench.core.dataset import Dataset
from mlipbench.data.manifest import load, source
from mlipbench.files.places import shared_folder
from mlipbench.generate import TABLE, ecemc_gfn1
from mlipbench.generate.ecemc_gfn1 import generate, plan, run
from mlipbench.physics.molecules import find_molecules


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def shipped() -> Dataset:
    return load(source("ecemc_gfn1"))


def test_the_table_names_it() -> None:
    assert TABLE["ecemc_gfn1"] == "mlipbench.generate.ecemc_gfn1:generate"


def test_trajectories_have_names_of_their_own() -> None:
    assert max(Counter(trajectory.name for trajectory in plan()).values()) == 1


def test_a_part_is_generated_and_resumed(tmp_path: Path) -> None:
    said: list[str] = []
    generate(tmp_path / "out", scratch=tmp_path / "scratch", report=said.append, only=1)
    generate(tmp_path / "again", scratch=tmp_path / "scratch", report=said.append, only=1)
    assert len(said) == 1  # the second call found everything in scratch
    first, again = (tmp_path / name / "frames.xyz.gz" for name in ("out", "again"))
    assert first.read_bytes() == again.read_bytes()
    data = load(source(str(tmp_path / "out" / "dataset.toml")))
    assert len(data) == 13
    assert data.config_type[-1] == "isolated_atom"
    assert len(data.splits["isolated_atoms"]) == 3


def test_a_label_that_fails_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def sometimes(atoms: Atoms, molecule: object) -> dict[str, object]:
        if next(calls) == 3:
            raise CalculationFailed("SCF not converged in 250 cycles")
        return {"symbols": atoms.get_chemical_symbols()}

    monkeypatch.setattr(ecemc_gfn1, "labelled", sometimes)
    made = run(plan()[0])
    assert len(made["frames"]) == plan()[0].protocol.n_frames - 1
    assert made["failed"] == [{"uid": "molecule_EC-300K-0:3", "reason": "SCF not converged in 250 cycles"}]
    assert "NaN" not in json.dumps(made)


def test_shipped_frames_hold_the_molecules_they_name(shipped: Dataset) -> None:
    assert shipped.molecule is not None
    for number, frame in enumerate(shipped.frames):
        own = shipped.molecule[shipped.offsets[number] : shipped.offsets[number + 1]]
        found = find_molecules(frame.positions, frame.cell.array, frame.pbc, radii=covalent_radii[frame.numbers])
        np.testing.assert_array_equal(found, own, err_msg=shipped.uid[number])


def test_shipped_vacuum_forces_move_no_molecule(shipped: Dataset) -> None:
    assert shipped.molecule is not None
    assert shipped.forces_intra is not None
    group = shipped.frame_of_atom * 100 + shipped.molecule
    net = np.array([np.bincount(group, weights=shipped.forces_intra[:, k]) for k in range(3)])
    assert np.abs(net).max() < 1e-4  # 15 atoms rounded to 1e-6 each, and tblite's own
    assert np.abs(np.bincount(group, weights=shipped.forces[:, 0])).max() > 1e-2  # in the liquid they are pushed


def test_the_plan_is_what_is_shipped(shipped: Dataset) -> None:
    planned = sum(trajectory.protocol.n_frames for trajectory in plan())
    assert len(shipped) == planned + 3
    assert shared_folder("reference_data").joinpath("ecemc_gfn1", "README.md").is_file()
