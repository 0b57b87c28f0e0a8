"""Does `ecemc_gaff2` hold the frames of `ecemc_gfn1` and of GAFF2's own liquid, with GAFF2's labels?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openmm")
pytest.importorskip("packmol")

from ase import Atoms

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Int
from mlipbench.data.manifest import load, source
from mlipbench.generate import TABLE, ecemc_gaff2, ecemc_gaff2_md
from mlipbench.generate.ecemc_gaff2 import generate, own_liquid, pieces_of, scaled_by, seed_of
from mlipbench.generate.gaff2_labels import record
from mlipbench.generate.sampling import molecule_numbers
from mlipbench.physics.cells import Float
from mlipbench.units import density_g_per_cm3

STATE = ((600.0, 5000.0),)


@pytest.fixture(scope="module")
def gfn1() -> Dataset:
    return load(source("ecemc_gfn1"))


@pytest.fixture(scope="module")
def shipped() -> Dataset:
    return load(source("ecemc_gaff2"))


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """One state, half a picosecond."""
    monkeypatch.setattr(ecemc_gaff2, "STATES", STATE)
    for name, value in (("DURATION_PS", 9.0), ("DROPPED_PS", 1.0), ("GAP_PS", 1.0)):
        monkeypatch.setattr(ecemc_gaff2, name, value)


def centres(atoms: Atoms, molecule: Int) -> Float:
    masses = atoms.get_masses()
    own = [molecule == number for number in range(int(molecule.max()) + 1)]
    return np.array([masses[k] @ atoms.positions[k] / masses[k].sum() for k in own])


def test_the_table_names_it() -> None:
    assert TABLE["ecemc_gaff2"] == "mlipbench.generate.ecemc_gaff2:generate"


def test_scaling_moves_molecules_and_nothing_in_them() -> None:
    """Two molecules 4 Å apart in a cell of 10 Å, by 1.08: 4.32 Å apart in a cell of 10.8 Å."""
    atoms = Atoms("OHOH", [[1, 0, 0], [1, 0, 1], [5, 0, 0], [5, 0, 1]], cell=np.eye(3) * 10.0, pbc=True)
    molecule = np.array([0, 0, 1, 1])
    before = atoms.positions.copy()
    made = scaled_by(atoms, molecule, 1.08)
    np.testing.assert_array_equal(atoms.positions, before)
    np.testing.assert_allclose(made.cell.array, 10.8 * np.eye(3))
    np.testing.assert_allclose(centres(made, molecule), 1.08 * centres(atoms, molecule))
    np.testing.assert_allclose(made.positions[1] - made.positions[0], [0.0, 0.0, 1.0])
    np.testing.assert_allclose(made.positions[3] - made.positions[2], [0.0, 0.0, 1.0])


def test_frames_of_another_data_set_keep_names_and_splits(gfn1: Dataset) -> None:
    pieces = list(pieces_of(gfn1))
    told = {one["uid"]: one for piece in pieces for one in piece.about}
    assert set(gfn1.uid) - set(told) == {gfn1.uid[i] for i in gfn1.splits["isolated_atoms"]}
    for number, uid in enumerate(gfn1.uid):
        if uid in told:
            assert told[uid]["trajectory"] == gfn1.trajectory[number]
            assert told[uid]["config_type"] == gfn1.config_type[number]
            assert set(told[uid]["splits"]) == {name for name, own in gfn1.splits.items() if number in own}


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_its_own_liquid_is_dealt_by_trajectory(tmp_path: Path) -> None:
    first, scaled, second = own_liquid(tmp_path)
    assert [len(piece.frames) for piece in (first, scaled, second)] == [8, 4, 8]
    assert {split for one in first.about for split in one["splits"]} == {"train", "train_quick"}
    assert {split for one in second.about for split in one["splits"]} == {"valid", "valid_quick"}
    assert sum("train_quick" in one["splits"] for one in first.about) == 3
    assert sum("train_quick" in one["splits"] for one in scaled.about) == 2
    assert not np.allclose(first.frames[0].positions, second.frames[0].positions)
    for number, frame in enumerate(scaled.frames):
        factor = (0.95, 1.08)[number % 2]
        assert frame.cell.array[0, 0] == pytest.approx(factor * first.frames[2 * number + 1].cell.array[0, 0], abs=1e-6)


def test_a_part_is_generated_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gfn1: Dataset, shipped: Dataset
) -> None:
    chosen = gfn1.take([0, gfn1.config_type.index("liquid_3"), gfn1.config_type.index("isolated_atom")])
    part = replace(chosen, splits={"train": (0, 2)})  # the liquid is in none
    monkeypatch.setattr(ecemc_gaff2, "STATES", ())
    monkeypatch.setattr("mlipbench.data.manifest.load", lambda origin: part)
    said: list[str] = []
    generate(tmp_path / "out", scratch=tmp_path / "scratch", report=said.append)
    generate(tmp_path / "again", scratch=tmp_path / "scratch", report=said.append)
    monkeypatch.undo()
    assert len(said) == 2  # the second call found everything in scratch
    first, again = (tmp_path / name / "frames.xyz.gz" for name in ("out", "again"))
    assert first.read_bytes() == again.read_bytes()
    data = load(source(str(tmp_path / "out" / "dataset.toml")))
    assert data.uid == part.uid[:2]
    assert data.splits == {"train": (0,)}
    assert data.molecule_charges == ((0,), (0, 0, 0))
    known = shipped.take([shipped.uid.index(uid) for uid in data.uid])
    np.testing.assert_array_equal(data.energy, known.energy)
    np.testing.assert_array_equal(data.forces, known.forces)
    np.testing.assert_array_equal(data.stress, known.stress)


def test_shipped_frames_are_those_of_the_other_data_set(gfn1: Dataset, shipped: Dataset) -> None:
    numbers = [gfn1.uid.index(uid) for uid in shipped.uid if uid in set(gfn1.uid)]
    assert len(numbers) == len(gfn1) - 3
    for ours, theirs in zip(shipped.frames, (gfn1.frames[i] for i in numbers), strict=False):
        np.testing.assert_array_equal(ours.positions, theirs.positions)
        np.testing.assert_array_equal(ours.cell.array, theirs.cell.array)


@pytest.mark.parametrize("kind", ["molecule_EC", "cluster_3", "liquid_6_gfn1md", "liquid_12_npt", "liquid_12_scaled"])
def test_shipped_labels_are_those_of_gaff2(shipped: Dataset, kind: str) -> None:
    assert shipped.molecule is not None
    assert shipped.energy_intra is not None
    assert shipped.forces_intra is not None
    i = len(shipped) - 1 - shipped.config_type[::-1].index(kind)
    rows = slice(shipped.offsets[i], shipped.offsets[i + 1])
    made = record(shipped.frames[i], shipped.molecule[rows])
    assert made["energy"] == pytest.approx(shipped.energy[i], abs=1e-6)
    assert made["energy_intra"] == pytest.approx(shipped.energy_intra[i], abs=1e-6)
    np.testing.assert_allclose(shipped.forces[rows], made["forces"], atol=1e-5)
    np.testing.assert_allclose(shipped.forces_intra[rows], made["forces_intra"], atol=1e-5)
    if shipped.has_stress[i]:
        np.testing.assert_allclose(shipped.stress[i], made["stress"], atol=1e-8)


def test_no_shipped_trajectory_is_in_two_splits(shipped: Dataset) -> None:
    homes = {
        name: {shipped.trajectory[i].removesuffix("-scaled") for i in shipped.splits[name]}
        for name in ("train", "valid", "test")
    }
    assert not homes["train"] & homes["valid"]
    assert not homes["train"] & homes["test"]
    assert not homes["valid"] & homes["test"]


def test_shipped_liquids_are_liquids(shipped: Dataset) -> None:
    found = [
        density_g_per_cm3(float(frame.get_masses().sum()), float(frame.get_volume()))
        for frame, kind in zip(shipped.frames, shipped.config_type, strict=True)
        if kind == "liquid_12_npt"
    ]
    assert len(found) == 64
    assert 0.75 < min(found) < max(found) < 1.25


def test_the_judge_is_another_liquid() -> None:
    """Frames that fitted models learn from must not be those that the reference of their liquids begins with."""
    names = [f"liquid_12_npt-{T:.0f}K-{P:.0f}bar-{k}" for T, P in ecemc_gaff2.STATES for k in range(2)]
    seeds = {seed_of(name) for name in names}
    assert len(seeds) == len(names)
    assert not seeds & {stretch.seed for stretch in ecemc_gaff2_md.stretches()}
    assert molecule_numbers(ecemc_gaff2.COMPOSITION)[1].shape == (160,)
