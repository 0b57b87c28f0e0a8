"""A linear ACE file as a model: predictions, committee, calculator, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read as read_frames
from ase.io import write as write_frames

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.file import write
from mlipbench.ace.posterior import Noise, Posterior, Uncertainty
from mlipbench.ace.potential import LinearAce
from mlipbench.ace.rows import Weights
from mlipbench.core.model import Committee, Model, ModelSpec, Predictions, SiteEnergies, SiteFeatures, Spread
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.models import ace
from mlipbench.models.ace import AceCommittee, AceModel, load
from mlipbench.testing.frames import small_frames
from mlipbench.testing.models import check_model

BASIS = Basis(numbers=(1, 6, 8), cutoff_A=4.0, degrees=(4.0, 3.0, 3.0), l_max=2)


def spec_of(folder: Path, *, kept: str, n_members: int = 4) -> ModelSpec:
    """Write a file with random coefficients and a random posterior: "none", "members" or "full" of it."""
    table = functions(BASIS)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, table.n_functions)) / table.degree**2
    potential = LinearAce(
        basis=BASIS, e0_eV=np.array([-1.0, -2, -3]), weights=weights, wall_reach_A=np.full((3, 3), 1.0)
    )
    prior = np.diag(np.tile(table.degree, 3))
    factor = np.linalg.qr(np.concatenate([rng.normal(size=(20, weights.size)), prior]))[1]
    noise = Noise(sigma=0.02, weights=Weights())
    posterior = Posterior(potential=potential, factor=factor, noise=noise)
    uncertainty = Uncertainty(
        members=posterior.draw(n_members, seed=1), noise=noise, factor=posterior.factor if kept == "full" else None
    )
    path = folder / "ace.npz"
    write(path, potential, uncertainty=None if kept == "none" else uncertainty)
    return ModelSpec(
        name="toy", kind="ace", checkpoint=str(path), checkpoint_sha256=sha256(path.read_bytes()).hexdigest()
    )


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return spec_of(tmp_path_factory.mktemp("ace"), kept="none")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return spec_of(tmp_path_factory.mktemp("full"), kept="full")


@pytest.fixture(scope="module")
def model(spec: ModelSpec) -> AceModel:
    return load(spec, device="cpu")


@pytest.fixture(scope="module", params=["analytic", "members"])
def committee(full: ModelSpec, request: pytest.FixtureRequest) -> AceCommittee:
    made = load(replace(full, options={"std": request.param}), device="cpu")
    assert isinstance(made, AceCommittee)
    return made


@pytest.fixture
def frames() -> list[Atoms]:
    free, cell, half = molecule("CH3CH2OH"), molecule("H2O"), molecule("CH4")
    cell.set_cell([3.0, 4.0, 5.0])
    cell.pbc = True
    half.set_cell([5.0, 5.0, 5.0])
    half.pbc = (True, True, False)
    for frame in (free, cell, half):
        frame.rattle(0.05, seed=2)
    return [free, cell, half]


def test_it_is_a_model_with_site_energies(model: AceModel) -> None:
    assert isinstance(model, Model)
    assert isinstance(model, SiteEnergies)
    assert isinstance(model, SiteFeatures)
    assert not isinstance(model, Committee)
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


def test_batches_do_not_change_predictions(
    model: AceModel, frames: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model.predict(frames * 3)
    monkeypatch.setattr(ace, "BATCH_ATOMS", 7)  # less than the largest frame
    assert np.array_equal(model.predict(frames * 3).forces, whole.forces)


def test_no_frames_give_empty_predictions(model: AceModel) -> None:
    assert model.predict([]).forces.shape == (0, 3)
    assert model.site_energies([]).shape == (0,)
    assert model.site_features([]).shape == (0, functions(BASIS).n_functions)


def test_features_times_weights_are_site_energies(model: AceModel, frames: list[Atoms]) -> None:
    features = model.site_features(frames)
    place = np.searchsorted(BASIS.numbers, np.concatenate([frame.numbers for frame in frames]))
    potential = replace(model.potential, wall_reach_A=np.zeros((3, 3)))
    bare = np.concatenate([potential.evaluate(frame).site_energies for frame in frames])
    found = potential.e0_eV[place] + np.einsum("ib,ib->i", features, potential.weights[place])
    np.testing.assert_allclose(found, bare, atol=1e-11)


def test_the_calculator_agrees_with_the_model(model: AceModel, frames: list[Atoms]) -> None:
    found, frame = model.predict(frames), frames[1]
    frame.calc = model.calculator()
    for step in range(3):  # the calculator keeps its neighbour list
        frame.positions += 0.03 * step
        assert frame.get_potential_energy() == pytest.approx(found.energy[1], abs=1e-11)
        assert frame.get_potential_energy(force_consistent=True) == frame.get_potential_energy()
        np.testing.assert_allclose(frame.get_forces(), found.forces[9:12], atol=1e-11)
        np.testing.assert_allclose(frame.get_stress(voigt=False), found.stress[1], atol=1e-11)
        assert frame.get_potential_energies().sum() == pytest.approx(found.energy[1], abs=1e-12)
    before = frame.get_potential_energy()
    frame.positions[0, 0] += 0.1
    assert frame.get_potential_energy() != before
    assert frame.get_potential_energy() == pytest.approx(model.predict([frame]).energy[0], abs=1e-11)
    frames[0].calc = model.calculator()
    with pytest.raises(PropertyNotImplementedError):
        frames[0].get_stress()


def test_a_stress_that_is_not_there_leaves_no_results_of_another_structure(
    model: AceModel, frames: list[Atoms]
) -> None:
    calculator = model.calculator()
    calculator.calculate(frames[1], ["energy"])
    with pytest.raises(PropertyNotImplementedError):
        calculator.calculate(frames[0], ["energy", "stress"])
    assert calculator.results == {}
    assert calculator.get_property("energy", frames[0]) == pytest.approx(model.predict(frames[:1]).energy[0], abs=1e-11)


def test_a_model_without_members_knows_no_spread(model: AceModel, frames: list[Atoms]) -> None:
    calculator = model.calculator()
    assert "energy_std" not in calculator.implemented_properties
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("energy_std", frames[0])


def test_committees_keep_the_contract(committee: AceCommittee) -> None:
    assert isinstance(committee, Committee)
    check_model(committee, small_frames())


def test_a_committee_predicts_by_its_mean(committee: AceCommittee, model: AceModel, frames: list[Atoms]) -> None:
    assert np.array_equal(committee.predict(frames).forces, model.predict(frames).forces)
    members = committee.predict_members(frames)
    assert len(members) == 4
    assert members[0].has_stress.tolist() == [False, True, False]
    assert len({float(one.energy[0]) for one in members}) == 4


def test_the_spread_of_members_is_taken_around_the_mean_coefficients(full: ModelSpec, frames: list[Atoms]) -> None:
    made = load(replace(full, options={"std": "members"}), device="cpu")
    assert isinstance(made, AceCommittee)
    centre, members, found = made.predict(frames), made.predict_members(frames), made.predict_std(frames)
    for name in ("energy", "forces"):
        apart = np.array([getattr(one, name) for one in members]) - getattr(centre, name)
        wanted = np.sqrt(np.sum(apart**2, axis=0) / 4)
        np.testing.assert_allclose(getattr(found, f"{name}_std"), wanted, rtol=1e-9)
        around_average = np.std([getattr(one, name) for one in members], axis=0, ddof=1)
        assert np.abs(around_average / wanted - 1.0).max() > 0.01
    stress = made.spread(frames[1]).stress_std
    apart = np.array([one.stress[1] for one in members]) - centre.stress[1]
    np.testing.assert_allclose(stress, np.sqrt(np.mean(apart**2, axis=0)), rtol=1e-9)


def test_many_members_spread_as_the_posterior(tmp_path: Path, frames: list[Atoms]) -> None:
    n = 1000
    many = spec_of(tmp_path, kept="full", n_members=n)
    wanted = load(many, device="cpu").predict_std(frames)  # type: ignore[attr-defined]
    found = load(replace(many, options={"std": "members"}), device="cpu").predict_std(frames)  # type: ignore[attr-defined]
    allowed = 5.0 / sqrt(2 * n)
    np.testing.assert_allclose(found.energy_std / wanted.energy_std, 1.0, atol=allowed)
    np.testing.assert_allclose(found.forces_std, wanted.forces_std, rtol=allowed, atol=1e-12)


def test_the_calculator_of_a_committee_answers_spreads(committee: AceCommittee, frames: list[Atoms]) -> None:
    wanted = committee.predict_std(frames[:1])
    calculator = committee.calculator()
    frame = frames[0]
    frame.calc = calculator
    energy, forces = frame.get_potential_energy(), frame.get_forces()
    assert "energy_std" not in calculator.results  # it costs, so it waits until it is asked
    assert calculator.get_property("energy_std", frame) == pytest.approx(wanted.energy_std[0], rel=1e-9)
    np.testing.assert_allclose(calculator.get_property("forces_std", frame), wanted.forces_std, rtol=1e-9)
    assert calculator.results["energy"] == energy
    assert np.array_equal(calculator.results["forces"], forces)
    frame.positions[0] += 0.05
    assert calculator.get_property("energy_std", frame, allow_calculation=False) is None
    moved = committee.predict_std([frame])
    assert calculator.get_property("energy_std", frame) == pytest.approx(moved.energy_std[0], rel=1e-9)
    assert frame.get_potential_energy() == pytest.approx(committee.predict([frame]).energy[0], abs=1e-11)
    calculator.calculate(frames[1], ["energy_std"])
    assert calculator.results["energy"] == pytest.approx(committee.predict(frames[1:2]).energy[0], abs=1e-11)


def test_frames_of_a_committee_can_be_written(committee: AceCommittee, frames: list[Atoms], tmp_path: Path) -> None:
    frame = frames[1]
    frame.calc = committee.calculator()
    frame.calc.get_property("forces_std", frame)
    for name in ("a.xyz", "a.traj"):
        write_frames(tmp_path / name, frame)
        assert read_frames(tmp_path / name).get_potential_energy() == pytest.approx(
            frame.get_potential_energy(), abs=1e-7
        )


class Broken:
    """A committee with one fault."""

    def __init__(self, right: AceCommittee) -> None:
        self.right, self.spec = right, right.spec

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        return self.right.predict(frames)

    def predict_members(self, frames: Sequence[Atoms]) -> tuple[Predictions, ...]:
        return self.right.predict_members(frames)

    def predict_std(self, frames: Sequence[Atoms]) -> Spread:
        return self.right.predict_std(frames)

    def calculator(self) -> Any:
        return self.right.calculator()


class NoMembers(Broken):
    def predict_members(self, frames: Sequence[Atoms]) -> tuple[Predictions, ...]:
        return ()


class OtherFrames(Broken):
    def predict_members(self, frames: Sequence[Atoms]) -> tuple[Predictions, ...]:
        return self.right.predict_members(frames[:-1])


class Variance(Broken):
    def predict_std(self, frames: Sequence[Atoms]) -> Spread:
        found = self.right.predict_std(frames)
        return Spread(energy_std=found.energy_std**2, forces_std=found.forces_std)


class PerAtom(Broken):
    def predict_std(self, frames: Sequence[Atoms]) -> Spread:
        found = self.right.predict_std(frames)
        return Spread(energy_std=found.energy_std, forces_std=np.linalg.norm(found.forces_std, axis=1))


class Negative(Broken):
    def predict_std(self, frames: Sequence[Atoms]) -> Spread:
        found = self.right.predict_std(frames)
        return Spread(energy_std=-found.energy_std, forces_std=found.forces_std)


class FirstFrameOnly(Broken):
    def predict_std(self, frames: Sequence[Atoms]) -> Spread:
        found = self.right.predict_std(frames)
        first = found.energy_std[:1]
        return Spread(energy_std=np.broadcast_to(first, found.energy_std.shape), forces_std=found.forces_std)


class SilentCalculator(Broken):
    def calculator(self) -> Any:
        potential = self.right.potential
        return AceModel(spec=self.spec, potential=potential, evaluator=self.right.evaluator).calculator()


FAULTS = {
    NoMembers: "no members",
    OtherFrames: "member 0 answers for",
    Variance: "the spreads of the calculator and of predict_std differ: energy",
    PerAtom: "forces_std has shape",
    Negative: "energy_std is negative",
    FirstFrameOnly: "one by one",
    SilentCalculator: "does not list energy_std",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_the_contract_of_committees_has_teeth(kind: type[Broken], full: ModelSpec) -> None:
    right = load(full, device="cpu")
    assert isinstance(right, AceCommittee)
    with pytest.raises(AssertionError, match=FAULTS[kind]):
        check_model(kind(right), small_frames())


def test_torch_answers_as_the_compiled_loops_do(full: ModelSpec, frames: list[Atoms]) -> None:
    pytest.importorskip("torch")
    for std in ("members", "analytic"):
        slow = load(replace(full, options={"std": std, "backend": "torch"}), device="cpu")
        fast = load(replace(full, options={"std": std}), device="cpu")
        assert isinstance(slow, AceCommittee)
        assert isinstance(fast, AceCommittee)
        np.testing.assert_allclose(slow.predict(frames).forces, fast.predict(frames).forces, atol=1e-10)
        spread, wanted = slow.predict_std(frames), fast.predict_std(frames)
        np.testing.assert_allclose(spread.forces_std, wanted.forces_std, atol=1e-10)
        np.testing.assert_allclose(spread.energy_std, wanted.energy_std, atol=1e-10)


def test_what_a_model_cannot_answer_names_the_frame(model: AceModel, frames: list[Atoms]) -> None:
    with pytest.raises(NotApplicable, match=r"frame 3: the ACE does not cover Li; it covers H, C, O"):
        model.predict([*frames, Atoms("Li")])
    with pytest.raises(ModelFailure, match="frame 0: atoms 0 and 1 are"):
        model.predict([Atoms("H2", [[0, 0, 0], [0, 0, 0]])])


def test_a_wrong_spec_is_refused(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not the one"):
        load(replace(spec, checkpoint_sha256="0" * 64), device="cpu")
    with pytest.raises(BadInput, match="needs a checkpoint"):
        load(replace(spec, checkpoint=None), device="cpu")
    with pytest.raises(BadInput, match="cannot be read"):
        load(replace(spec, checkpoint=str(tmp_path / "none.npz")), device="cpu")


@pytest.mark.parametrize(
    ("kept", "options", "says"),
    [
        ("none", {"dtype": "float32"}, "unknown option 'dtype'"),
        ("none", {"backend": "numbas"}, "unknown backend 'numbas'. Did you mean 'numba'"),
        ("none", {"std": "members"}, "option std needs a file with members"),
        ("members", {"std": "analytic"}, "needs a file with the whole posterior"),
        ("members", {"std": "mean"}, "unknown std 'mean'"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, kept: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load(replace(spec_of(tmp_path, kept=kept), options=options), device="cpu")


def test_members_alone_make_a_committee(tmp_path: Path, frames: list[Atoms]) -> None:
    made = load(spec_of(tmp_path, kept="members"), device="cpu")
    assert isinstance(made, AceCommittee)
    assert made.posterior is None
    assert made.predict_std(frames).energy_std.all()


def test_lone_atoms_have_the_energies_it_states(model: AceModel) -> None:
    stated = model.atom_energies()
    lone = model.predict([Atoms(symbol) for symbol in stated]).energy
    assert lone == pytest.approx(list(stated.values()), abs=1e-9)
