"""What is on disk can be made again, and its saddle is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed
from ase.optimize import BFGS

from mlipbench.benchmarks.path_frames import paths_of
from mlipbench.core.dataset import Dataset
from mlipbench.data import manifest
from mlipbench.files.places import shared_folder
from mlipbench.generate import malonaldehyde_gfn2 as made
from mlipbench.physics.vibrations import rmsd_squares_A2, vibrations

O_FIRST, O_LAST, HYDROGEN = 0, 4, 5


@pytest.fixture(scope="module")
def data() -> Dataset:
    return manifest.load(manifest.source("malonaldehyde_gfn2"))


@pytest.fixture
def tblite(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tblite")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def what(data: Dataset, name: str) -> float:
    return float(data.observables[f"malonaldehyde/{name}"])


def test_it_is_one_path_in_order(data: Dataset) -> None:
    assert list(paths_of(data)) == ["malonaldehyde"]
    assert data.spec.level_of_theory == "GFN2-xTB"
    assert len(data.split("path")) == len(data) == made.N_IMAGES
    reach = [frame.get_distance(O_LAST, HYDROGEN) for frame in data.frames]
    assert reach == sorted(reach)
    assert reach[0] == pytest.approx(1.0, abs=0.01)
    steps = [
        np.linalg.norm(after.positions - before.positions)
        for before, after in zip(data.frames[:-1], data.frames[1:], strict=True)
    ]
    assert max(steps) < 1.2 * min(steps)


def test_it_is_its_own_mirror_image(data: Dataset) -> None:
    """Read backwards, with atoms renamed, it is the same path, so the reaction has no energy of its own."""
    forces = data.forces.reshape(made.N_IMAGES, -1, 3)
    for k, frame in enumerate(data.frames):
        other = data.frames[-1 - k].positions[list(made.MIRRORED)] * [-1.0, 1.0, 1.0]
        assert np.sqrt(rmsd_squares_A2(other, frame.positions).max()) < 2e-3
        assert np.abs(frame.positions[:, 2]).max() < 1e-6
        size, mirrored = (np.linalg.norm(forces[i], axis=1) for i in (k, -1 - k))
        np.testing.assert_allclose(size, mirrored[list(made.MIRRORED)], atol=0.02)
    np.testing.assert_allclose(data.energy, data.energy[::-1], atol=1e-4)
    assert abs(what(data, "reaction_energy_eV")) < 1e-6


def test_observables_are_those_of_the_frames(data: Dataset) -> None:
    saddle = int(what(data, "saddle"))
    assert saddle == np.argmax(data.energy) == made.N_IMAGES // 2
    assert what(data, "barrier_eV") == pytest.approx(data.energy[saddle] - data.energy[0], abs=1e-7)
    assert what(data, "barrier_eV") == pytest.approx(0.16296, abs=2e-5)
    at = data.forces.reshape(made.N_IMAGES, -1)
    for k in (0, saddle, -1):
        assert np.abs(at[k]).max() < made.PATH_FORCE_EV_A
    assert np.abs(at[2]).max() > 0.1
    frame = data.frames[saddle]
    assert frame.get_distance(O_FIRST, HYDROGEN) == pytest.approx(frame.get_distance(O_LAST, HYDROGEN), abs=1e-4)
    waves = data.observables["malonaldehyde/saddle_wavenumbers_per_cm"]
    assert (waves < 0.0).sum() == 1 and len(waves) == 3 * 9 - 6
    assert waves[0] == -what(data, "imaginary_wavenumber_per_cm")
    assert (data.observables["malonaldehyde/reactant_wavenumbers_per_cm"] > 100.0).all()
    assert shared_folder("reference_data").joinpath("malonaldehyde_gfn2", "README.md").is_file()


@pytest.mark.usefixtures("tblite")
def test_labels_are_made_again(data: Dataset) -> None:
    saddle = int(what(data, "saddle"))
    said = made.model().predict([data.frames[k] for k in (0, 2, saddle)])
    np.testing.assert_allclose(said.energy, data.energy[[0, 2, saddle]], atol=1e-6)
    stored = data.forces.reshape(made.N_IMAGES, -1, 3)[[0, 2, saddle]]
    np.testing.assert_allclose(said.forces.reshape(stored.shape), stored, atol=1e-5)


@pytest.mark.usefixtures("tblite")
def test_the_highest_image_is_a_saddle(data: Dataset) -> None:
    """One mode is imaginary, and it carries the hydrogen atom from one oxygen to the other."""
    frame = data.frames[int(what(data, "saddle"))]
    found = vibrations(made.hessian(frame), frame.positions, frame.get_masses())
    assert (found.wavenumbers_per_cm < 0.0).sum() == 1
    assert -found.wavenumbers_per_cm[0] == pytest.approx(what(data, "imaginary_wavenumber_per_cm"), abs=0.5)
    mode = found.modes[0].reshape(-1, 3)
    across = frame.positions[O_LAST] - frame.positions[O_FIRST]
    assert abs(mode[HYDROGEN] @ across) / np.linalg.norm(across) > 0.8


@pytest.mark.usefixtures("tblite")
def test_the_saddle_is_found_without_a_band(data: Dataset) -> None:
    """The halfway structure is its own mirror image, stays so as it slides downhill, and so ends on the saddle."""
    first = made.reactant()
    halfway = first.copy()
    halfway.positions = 0.5 * (first.positions + made.mirrored(first).positions)
    halfway.calc = made.calculator(method=made.METHOD, accuracy=made.ACCURACY)
    assert BFGS(halfway, logfile=None).run(fmax=1e-4, steps=200)
    barrier = halfway.get_potential_energy() - made.model().predict([first]).energy[0]
    assert barrier == pytest.approx(what(data, "barrier_eV"), abs=1e-5)


@pytest.mark.usefixtures("tblite")
def test_it_is_made_again_and_kept(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "PATH_FORCE_EV_A", 0.02)
    said: list[str] = []
    made.generate(tmp_path / "out", scratch=tmp_path / "scratch", report=said.append)
    again = manifest.load(manifest.source(str(tmp_path / "out")))
    assert said == ["path found", "vibrations found"]
    np.testing.assert_allclose(again.energy[[0, 5, 10]], data.energy[[0, 5, 10]], atol=1e-4)
    assert what(again, "imaginary_wavenumber_per_cm") == pytest.approx(1229.0, abs=3.0)
    for name in ("path_of_images", "wavenumbers"):
        monkeypatch.setattr(made, name, lambda *_: pytest.fail("made twice"))
    made.generate(tmp_path / "out", scratch=tmp_path / "scratch", report=said.append)
    assert manifest.source(str(tmp_path / "out")).sha256 == again.spec.sha256


@pytest.mark.usefixtures("tblite")
def test_what_is_no_path_is_refused(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CalculationFailed, match="the saddle has 0 imaginary modes instead of 1"):
        made.wavenumbers(data.frames, 0)
    monkeypatch.setattr(made, "MOST_STEPS", 1)
    with pytest.raises(CalculationFailed, match="did not come to rest in 1 steps"):
        made.reactant()
    monkeypatch.setattr(made, "reactant", data.frames[0].copy)
    with pytest.raises(CalculationFailed, match="the path did not come to rest"):
        made.path_of_images()
