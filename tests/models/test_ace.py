"""A linear ACE file as a model: predictions, calculator, and what it refuses."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.file import write
from mlipbench.ace.potential import LinearAce
from mlipbench.core.model import Model, ModelSpec, SiteEnergies
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.models.ace import AceModel, load


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    basis = Basis(numbers=(1, 6, 8), cutoff_A=4.0, degrees=(4.0, 3.0, 3.0), l_max=2)
    table = functions(basis)
    weights = np.random.default_rng(0).normal(size=(3, table.n_functions)) / table.degree**2
    path = tmp_path_factory.mktemp("ace") / "ace.npz"
    write(
        path, LinearAce(basis=basis, e0_eV=np.array([-1.0, -2, -3]), weights=weights, wall_reach_A=np.full((3, 3), 1.0))
    )
    return ModelSpec(
        name="toy", kind="ace", checkpoint=str(path), checkpoint_sha256=sha256(path.read_bytes()).hexdigest()
    )


@pytest.fixture(scope="module")
def model(spec: ModelSpec) -> AceModel:
    return load(spec, device="cpu")


@pytest.fixture
def frames() -> list[Atoms]:
    free, cell, half = molecule("CH3CH2OH"), molecule("H2O"), molecule("CH4")
    cell.set_cell([3.0, 4.0, 5.0])
    cell.pbc = True
    half.set_cell([5.0, 5.0, 5.0])
    half.pbc = (True, True, False)
    return [free, cell, half]


def test_it_is_a_model_with_site_energies(model: AceModel) -> None:
    assert isinstance(model, Model)
    assert isinstance(model, SiteEnergies)
    assert model.spec.elements == ("H", "C", "O")


def test_predictions_run_frame_after_frame(model: AceModel, frames: list[Atoms]) -> None:
    found = model.predict(frames)
    assert found.n_atoms.tolist() == [9, 3, 5]
    assert found.has_stress.tolist() == [False, True, False]
    for i, frame in enumerate(frames):
        alone = model.predict([frame])
        assert alone.energy[0] == found.energy[i]
        assert np.array_equal(alone.forces, found.forces[found.offsets[i] : found.offsets[i + 1]])
    assert not found.stress[0].any()
    assert found.stress[1].any()
    sites = model.site_energies(frames)
    assert [sites[a:b].sum() for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == pytest.approx(
        found.energy.tolist(), abs=1e-11
    )


def test_no_frames_give_empty_predictions(model: AceModel) -> None:
    assert model.predict([]).forces.shape == (0, 3)
    assert model.site_energies([]).shape == (0,)


def test_the_calculator_agrees_with_the_model(model: AceModel, frames: list[Atoms]) -> None:
    found, frame = model.predict(frames), frames[1]
    frame.calc = model.calculator()
    assert frame.get_potential_energy() == found.energy[1]
    assert frame.get_potential_energy(force_consistent=True) == found.energy[1]
    assert np.array_equal(frame.get_forces(), found.forces[9:12])
    assert np.array_equal(frame.get_stress(voigt=False), found.stress[1])
    assert frame.get_potential_energies().sum() == pytest.approx(found.energy[1], abs=1e-12)
    before = frame.get_potential_energy()
    frame.positions[0, 0] += 0.1
    assert frame.get_potential_energy() != before
    frames[0].calc = model.calculator()
    with pytest.raises(PropertyNotImplementedError):
        frames[0].get_stress()


def test_what_a_model_cannot_answer_names_the_frame(model: AceModel, frames: list[Atoms]) -> None:
    with pytest.raises(NotApplicable, match=r"frame 3: the ACE does not cover Li; it covers H, C, O"):
        model.predict([*frames, Atoms("Li")])
    with pytest.raises(ModelFailure, match="frame 0: atoms 0 and 1 are"):
        model.predict([Atoms("H2", [[0, 0, 0], [0, 0, 0]])])


def test_a_wrong_spec_is_refused(spec: ModelSpec, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(BadInput, match="is not the one"):
        load(replace(spec, checkpoint_sha256="0" * 64), device="cpu")
    with pytest.raises(BadInput, match="needs a checkpoint"):
        load(replace(spec, checkpoint=None), device="cpu")
    with pytest.raises(BadInput, match="cannot be read"):
        load(replace(spec, checkpoint=str(tmp_path / "none.npz")), device="cpu")
    with pytest.raises(BadInput, match="unknown option 'dtype'"):
        load(replace(spec, options={"dtype": "float32"}), device="cpu")
