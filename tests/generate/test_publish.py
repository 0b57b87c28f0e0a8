"""Does a data set survive the way to disk, and do the same frames give the same bytes?"""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlipbench.data.manifest import load, source
from mlipbench.generate.ecemc_gfn1 import PUBLICATION
from mlipbench.generate.publish import write_frames, write_manifest


def frame(uid: str, *, periodic: bool, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    forces = rng.normal(size=(4, 3))
    stress = rng.normal(size=(3, 3))
    return {
        "uid": uid,
        "trajectory": uid.split(":", maxsplit=1)[0],
        "config_type": "pair",
        "composition": "OH(2)",
        "temperature_K": 300.0,
        "density_g_cm3": 0.1 if periodic else None,
        "splits": ("train", "train_quick"),
        "symbols": ["O", "H", "O", "H"],
        "positions": np.round(rng.normal(size=(4, 3)), 6).tolist(),
        "cell": np.diag([9.0, 9.0, 9.0]).tolist() if periodic else None,
        "molecule": [0, 0, 1, 1],
        "energy": float(rng.normal()),
        "forces": forces.tolist(),
        "stress": (stress + stress.T).tolist() if periodic else None,
        "energy_intra": float(rng.normal()),
        "forces_intra": (2 * forces).tolist(),
    }


FRAMES = [frame("a:0", periodic=False, seed=1), frame("b:0", periodic=True, seed=2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_frames(tmp_path / "frames.xyz.gz", FRAMES)
    failed = [{"uid": "c:1", "reason": 'not converged in 250 cycles, "sorry"'}]
    write_manifest(tmp_path / "dataset.toml", PUBLICATION, FRAMES, failed=failed, base_seed=7)
    return tmp_path


def test_what_is_read_is_what_was_labelled(folder: Path) -> None:
    data = load(source(str(folder / "dataset.toml")))
    np.testing.assert_allclose(data.energy, [f["energy"] for f in FRAMES], atol=1e-8)
    np.testing.assert_allclose(data.forces, np.concatenate([f["forces"] for f in FRAMES]), atol=1e-6)
    np.testing.assert_allclose(data.stress[1], FRAMES[1]["stress"], atol=1e-9)
    np.testing.assert_allclose(data.forces_intra, np.concatenate([f["forces_intra"] for f in FRAMES]), atol=1e-6)
    np.testing.assert_allclose(data.energy_intra, [f["energy_intra"] for f in FRAMES], atol=1e-8)
    assert data.has_stress.tolist() == [False, True]
    assert data.uid == ("a:0", "b:0")
    assert data.trajectory == ("a", "b")
    assert data.splits == {"train": (0, 1), "train_quick": (0, 1)}
    assert data.molecule is not None
    assert data.molecule.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert data.molecule_charges == ((0, 0), (0, 0))
    np.testing.assert_array_equal(data.frames[1].positions, FRAMES[1]["positions"])


def test_the_same_frames_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "again.xyz.gz", FRAMES)
    assert (tmp_path / "again.xyz.gz").read_bytes() == (folder / "frames.xyz.gz").read_bytes()


def test_failures_are_named_in_the_manifest(folder: Path) -> None:
    manifest = tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))
    assert manifest["generated"]["n_failed"] == 1
    assert manifest["generated"]["failed"] == [{"uid": "c:1", "reason": 'not converged in 250 cycles, "sorry"'}]
    assert manifest["schema"] == 1


def test_a_number_that_is_not_finite_never_reaches_a_manifest(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.xyz.gz", FRAMES)
    failed: list[dict[str, Any]] = [{"uid": "x", "reason": float("nan")}]
    with pytest.raises(ValueError, match="JSON"):
        write_manifest(tmp_path / "dataset.toml", PUBLICATION, FRAMES, failed=failed, base_seed=0)
