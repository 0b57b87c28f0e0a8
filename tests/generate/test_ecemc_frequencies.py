"""What is on disk can be made again, and what it says of itself holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from mlipbench.core.dataset import Dataset
from mlipbench.data import manifest
from mlipbench.generate import ecemc_frequencies as made
from mlipbench.models.gaff2 import template
from mlipbench.physics.vibrations import vibrations

PUBLISHED = ("EC", "EMC-0", "EMC-1")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return manifest.load(manifest.source("ecemc_frequencies"))


def ethylene_carbonate() -> Atoms:
    known = template("EC")
    return Atoms(known.symbols, known.positions)


def test_every_molecule_is_a_minimum_with_its_vibrations(data: Dataset) -> None:
    assert data.uid == PUBLISHED
    assert data.trajectory == ("EC", "EMC", "EMC")
    assert len(data.split(made.SPLIT)) == 3
    assert np.linalg.norm(data.forces, axis=1).max() < 1e-3
    for uid, frame in zip(data.uid, data.frames, strict=True):
        found = vibrations(data.observables[f"{uid}/hessian"], frame.positions, frame.get_masses())
        assert len(found.wavenumbers_per_cm) == 3 * len(frame) - 6
        assert found.wavenumbers_per_cm[0] > 20.0
        np.testing.assert_allclose(data.observables[f"{uid}/wavenumbers"], found.wavenumbers_per_cm, rtol=1e-6)
        overlap = np.abs((data.observables[f"{uid}/modes"] * found.modes).sum(axis=1))
        np.testing.assert_allclose(overlap, 1.0, atol=1e-6)


def test_conformers_are_two(data: Dataset) -> None:
    """With the ethyl group stretched out, and turned aside, which GFN1-xTB likes better."""
    torsion = [frame.get_dihedral(0, 1, 2, 3) for frame in data.frames[1:]]
    assert torsion[0] == pytest.approx(180.0, abs=1.0)
    assert min(torsion[1], 360.0 - torsion[1]) == pytest.approx(76.8, abs=2.0)
    assert 1000.0 * (data.energy[1] - data.energy[2]) == pytest.approx(47.7, abs=1.0)


def test_conformers_are_found_again(data: Dataset) -> None:
    pytest.importorskip("rdkit")
    starts = dict(made.starts())
    assert tuple(starts) == PUBLISHED
    for uid, frame in zip(data.uid, data.frames, strict=True):
        assert starts[uid].get_chemical_symbols() == frame.get_chemical_symbols()


def test_one_molecule_is_made_again(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tblite")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(made, "starts", lambda: iter([("EC", ethylene_carbonate())]))
    said: list[str] = []
    made.generate(tmp_path / "out", scratch=tmp_path / "scratch", report=said.append)
    again = manifest.load(manifest.source(str(tmp_path / "out")))
    assert again.uid == ("EC",) and len(said) == 1
    assert again.energy[0] == pytest.approx(data.energy[0], abs=1e-5)
    np.testing.assert_allclose(
        again.observables["EC/wavenumbers"], data.observables["EC/wavenumbers"], rtol=1e-3, atol=0.5
    )
    # A second time everything is in scratch.
    monkeypatch.setattr(made, "measured", lambda *_: pytest.fail("made twice"))
    made.generate(tmp_path / "out", scratch=tmp_path / "scratch", report=said.append)
    assert len(said) == 1
    assert manifest.source(str(tmp_path / "out")).sha256 == again.spec.sha256


def test_the_step_is_small_enough(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error goes with the square of the step: a third of the change from twice the step is what is left."""
    pytest.importorskip("tblite")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    frame = data.frames[0]
    coarse = vibrations(made.hessian(frame, step_A=2 * made.STEP_A), frame.positions, frame.get_masses())
    change = coarse.wavenumbers_per_cm - data.observables["EC/wavenumbers"]
    assert 0.05 < np.sqrt((change**2).mean()) < 0.4
    assert np.abs(change).max() < 1.0


def test_what_fails_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tblite")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with monkeypatch.context() as hurried, pytest.raises(CalculationFailed, match="did not come to rest in 1 steps"):
        hurried.setattr(made, "MOST_STEPS", 1)
        made.relaxed(ethylene_carbonate())
    measured = made.measured

    def fails_on_emc(name: str, start: Atoms) -> dict[str, object]:
        if name == "EMC-0":
            raise CalculationFailed("the electrons did not settle")
        return measured(name, start)

    monkeypatch.setattr(made, "starts", lambda: iter([(name, ethylene_carbonate()) for name in ("EC", "EMC-0")]))
    monkeypatch.setattr(made, "measured", fails_on_emc)
    made.generate(tmp_path / "out", scratch=tmp_path / "scratch", report=lambda _: None)
    source = manifest.source(str(tmp_path / "out"))
    assert manifest.load(source).uid == ("EC",)
    assert source.manifest.generated["failed"] == [{"uid": "EMC-0", "reason": "the electrons did not settle"}]
