"""Are the shipped labels those of GFN1-xTB, and do they belong to the shipped geometries?"""

import gzip
import io

import numpy as np
import pytest

pytest.importorskip("tblite")

from ase import Atoms
from ase.io import read

from mlipbench.errors import BadInput
from mlipbench.files.places import shared_folder
from mlipbench.generate.labels import calculator, label

FRAMES = shared_folder("reference_data") / "ecemc_gfn1" / "frames.xyz.gz"
ENERGY_EV_PER_ATOM, FORCE_EV_PER_A, STRESS_EV_PER_A3 = 1e-6, 1e-4, 1e-6


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def dozen() -> list[Atoms]:
    """Return the last frame of each kind that has small ones."""
    text = io.StringIO(gzip.decompress(FRAMES.read_bytes()).decode())  # ASE seeks, which is slow in a gzip stream
    kinds = {f.info["config_type"]: f for f in read(text, ":", format="extxyz") if len(f) <= 80}
    return [kinds[kind] for kind in sorted(kinds)]


def test_a_dozen_kinds_are_there(dozen: list[Atoms]) -> None:
    assert len(dozen) >= 12
    assert any(frame.pbc.all() for frame in dozen)
    assert any(len(frame) == 1 for frame in dozen)


def test_a_dozen_labels_are_reproduced(dozen: list[Atoms]) -> None:
    for frame in dozen:
        again, shipped, n = label(frame, frame.arrays["molecule"]), frame.calc.results, len(frame)
        where = frame.info["uid"]
        assert again.energy / n == pytest.approx(shipped["energy"] / n, abs=ENERGY_EV_PER_ATOM), where
        assert again.energy_intra / n == pytest.approx(frame.info["energy_intra"] / n, abs=ENERGY_EV_PER_ATOM), where
        np.testing.assert_allclose(again.forces, shipped["forces"], atol=FORCE_EV_PER_A, err_msg=where)
        np.testing.assert_allclose(again.forces_intra, frame.arrays["forces_intra"], atol=FORCE_EV_PER_A, err_msg=where)
        assert (again.stress is not None) == frame.pbc.all() == ("stress" in shipped)
        if again.stress is not None:
            voigt = again.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
            np.testing.assert_allclose(voigt, shipped["stress"], atol=STRESS_EV_PER_A3, err_msg=where)


def test_labels_of_a_moved_atom_would_be_noticed(dozen: list[Atoms]) -> None:
    frame = next(frame for frame in dozen if len(frame) == 10).copy()
    before = label(frame, frame.arrays["molecule"])
    frame.positions[0, 0] += 1e-4
    after = label(frame, frame.arrays["molecule"])
    assert np.abs(after.forces - before.forces).max() > FORCE_EV_PER_A


def test_one_molecule_is_its_own_vacuum() -> None:
    water = Atoms("OHH", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    made = label(water, np.zeros(3, dtype=np.int64))
    assert made.stress is None
    assert made.energy == made.energy_intra
    np.testing.assert_array_equal(made.forces, made.forces_intra)


def test_far_molecules_do_not_feel_each_other() -> None:
    water = Atoms("OHH", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    other = water.copy()
    other.positions += [80.0, 0.0, 0.0]
    made = label(water + other, np.array([0, 0, 0, 1, 1, 1]))
    assert made.energy == pytest.approx(made.energy_intra, abs=1e-5)
    np.testing.assert_allclose(made.forces, made.forces_intra, atol=FORCE_EV_PER_A)
    np.testing.assert_allclose(made.forces_intra[:3].sum(axis=0), 0.0, atol=1e-8)


@pytest.mark.parametrize("threads", [None, "2"])
def test_more_threads_are_refused(monkeypatch: pytest.MonkeyPatch, threads: str | None) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    with pytest.raises(BadInput, match="OMP_NUM_THREADS=1"):
        calculator()
