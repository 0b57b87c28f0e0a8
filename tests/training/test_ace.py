"""Training a linear ACE from a data set: accuracy on a toy potential, E0s, options, and the file it leaves."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlipbench.ace.file import read
from mlipbench.ace.posterior import Noise
from mlipbench.ace.rows import Weights
from mlipbench.core.benchmark import no_progress
from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.core.model import Committee, ModelSpec, Trained
from mlipbench.errors import BadInput
from mlipbench.models.ace import load
from mlipbench.training import ace
from mlipbench.training.ace import CHECKPOINT, DEFAULTS, train

TINY: dict[str, Any] = {"cutoff_A": 4.5, "degrees": {"nu1": 5, "nu2": 4, "nu3": 3}, "l_max": 2}
ROOT = Path(__file__).parents[2]


def dataset(frames: list[Atoms]) -> Dataset:
    """Label frames with ASE's effective medium theory."""
    energy, forces, stress = [], [], []
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = EMT()
        energy.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
        stress.append(atoms.get_stress(voigt=False) if frame.pbc.all() else np.zeros((3, 3)))
    n = len(frames)
    return Dataset(
        spec=DatasetSpec(
            name="emt",
            version="1",
            level_of_theory="EMT",
            licence="MIT",
            citation=(),
            elements=("Cu", "Au"),
            sha256="0",
        ),
        frames=tuple(frames),
        uid=tuple(str(i) for i in range(n)),
        energy=np.array(energy),
        forces=np.concatenate(forces),
        stress=np.array(stress),
        has_stress=np.array([frame.pbc.all() for frame in frames]),
        trajectory=("a",) * n,
        config_type=("b",) * n,
    )


def alloys(n: int, first: int = 0) -> list[Atoms]:
    frames = []
    for seed in range(first, first + n):
        rng = np.random.default_rng(seed)
        frame = bulk("Cu", cubic=True, a=3.8 + 0.05 * rng.normal()).repeat((2, 1, 1))
        frame.numbers[:] = rng.choice([29, 79], size=len(frame))
        frame.rattle(0.08, rng=rng)
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset]:
    return dataset(alloys(24)), dataset(alloys(8, first=100))


def trained(data: tuple[Dataset, Dataset], out: Path, **options: Any) -> Trained:
    return train(*data, options={**TINY, **options}, seed=0, device="cpu", out=out, progress=no_progress)


def test_a_toy_potential_is_learnt(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    made = train(*data, options=TINY, seed=0, device="cpu", out=tmp_path, progress=lambda *x: calls.append(x))
    spread = 1e3 * np.sqrt(np.square(data[1].forces).mean())
    assert made.facts["valid_forces_rmse_meV_per_A"] < 0.05 * spread
    assert made.facts["valid_energy_rmse_meV_per_atom"] < 5.0
    assert made.facts["valid_stress_rmse_meV_per_A3"] < 1.0
    assert made.facts["n_rows"] == 24 * (1 + 3 * 8 + 6)
    assert made.elements == ("Cu", "Au")
    assert made.notes == ()
    assert calls[-1][:2] == (24, 24)
    assert all(np.isfinite(x) for x in made.facts.values())
    model = load(ModelSpec(name="a", kind=made.kind, checkpoint=str(tmp_path / made.checkpoint)), device="cpu")
    error = model.predict(data[1].frames).forces - data[1].forces
    assert 1e3 * np.sqrt(np.square(error).mean()) == pytest.approx(made.facts["valid_forces_rmse_meV_per_A"])


def test_the_same_recipe_gives_the_same_file(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    few = data[0].take(range(6)), data[1]
    trained(few, tmp_path / "a")
    trained(few, tmp_path / "b")
    assert (tmp_path / "a" / CHECKPOINT).read_bytes() == (tmp_path / "b" / CHECKPOINT).read_bytes()


def test_the_file_holds_a_committee(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    few = data[0].take(range(6)), data[1]
    made = trained(few, tmp_path / "a", n_members=5)
    found = read(tmp_path / "a" / CHECKPOINT)
    assert found.uncertainty is not None
    assert found.uncertainty.members.shape == (5, *found.potential.weights.shape)
    assert found.uncertainty.factor is None
    assert found.uncertainty.noise == Noise(sigma=made.facts["evidence_sigma"], weights=Weights())
    assert made.facts["energy_noise_meV_per_sqrt_atom"] == pytest.approx(1e3 * made.facts["evidence_sigma"] / 10.0)
    assert made.facts["forces_noise_meV_per_A"] == pytest.approx(1e3 * made.facts["evidence_sigma"])
    assert 0 < made.facts["effective_parameters"] < made.facts["n_columns"]
    model = load(ModelSpec(name="a", kind="ace", checkpoint=str(tmp_path / "a" / CHECKPOINT)), device="cpu")
    assert isinstance(model, Committee)
    assert (model.predict_std(data[1].frames).forces_std > 0).all()


def test_the_seed_draws_the_members_and_nothing_else(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    few = data[0].take(range(6)), data[1]
    for seed in (0, 1):
        out = tmp_path / str(seed)
        train(*few, options={**TINY, "n_members": 2}, seed=seed, device="cpu", out=out, progress=no_progress)
    first, second = (read(tmp_path / str(seed) / CHECKPOINT) for seed in (0, 1))
    assert np.array_equal(first.potential.weights, second.potential.weights)
    assert first.uncertainty is not None
    assert second.uncertainty is not None
    assert not np.array_equal(first.uncertainty.members, second.uncertainty.members)


def test_the_posterior_can_be_kept_whole_or_not_at_all(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    few = data[0].take(range(6)), data[1]
    trained(few, tmp_path / "full", posterior="full", n_members=400)
    trained(few, tmp_path / "none", posterior="none")
    assert read(tmp_path / "none" / CHECKPOINT).uncertainty is None
    found = read(tmp_path / "full" / CHECKPOINT).uncertainty
    assert found is not None
    assert found.factor is not None
    spec = ModelSpec(name="a", kind="ace", checkpoint=str(tmp_path / "full" / CHECKPOINT))
    analytic = load(spec, device="cpu").predict_std(data[1].frames)  # type: ignore[attr-defined]
    members = load(replace(spec, options={"std": "members"}), device="cpu").predict_std(data[1].frames)  # type: ignore[attr-defined]
    # The root of a mean of 400 squares is off by 1 / √800 of itself.
    np.testing.assert_allclose(members.energy_std, analytic.energy_std, rtol=5 / 800**0.5)
    np.testing.assert_allclose(members.forces_std, analytic.forces_std, rtol=5 / 800**0.5)


def test_labels_without_content_get_a_note(tmp_path: Path) -> None:
    lone = dataset([Atoms("Cu"), Atoms("Au")] * 2)
    made = trained((lone, lone), tmp_path)
    assert made.notes == ("The fit leaves nothing unexplained, so the members of the committee do not differ.",)


def test_four_features_and_cutoffs_of_pairs_reach_the_basis(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    few = data[0].take(range(4)), data[1]
    degrees = {"nu1": 4, "nu2": 3, "nu3": 2, "nu4": 2}
    trained(few, tmp_path, degrees=degrees, pair_cutoffs_A={"Au-Cu": 4.0, "Cu-Cu": 3.5})
    basis = read(tmp_path / CHECKPOINT).potential.basis
    assert basis.degrees == (4.0, 3.0, 2.0, 2.0)
    assert basis.pair_cutoffs_A == ((29, 29, 3.5), (29, 79, 4.0))


def test_one_composition_gets_a_note(tmp_path: Path) -> None:
    frames = [Atoms("CuAu", [[0, 0, 0], [0, 0, 2.3 + 0.1 * k]]) for k in range(5)]
    made = trained((dataset(frames), dataset(frames)), tmp_path)
    assert made.notes == (
        "E0s from least squares have rank 1 of 2 elements: energies of other compositions are meaningless.",
        "The fit leaves nothing unexplained, so the members of the committee do not differ.",  # 35 rows
    )
    assert "valid_stress_rmse_meV_per_A3" not in made.facts


def test_isolated_and_tabulated_e0s_are_those_of_lone_atoms(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    few = alloys(4)
    with pytest.raises(BadInput, match=r"no one-atom frame of Cu, Au. Add them"):
        trained((dataset(few), data[1]), tmp_path, e0="isolated")
    lone = [Atoms("Cu"), Atoms("Au")]
    full = dataset([*few, *lone])
    made = trained((full, data[1]), tmp_path, e0="isolated")
    model = load(ModelSpec(name="a", kind="ace", checkpoint=str(tmp_path / made.checkpoint)), device="cpu")
    assert np.array_equal(model.predict(lone).energy, full.energy[-2:])
    made = trained((dataset(few), data[1]), tmp_path, e0={"Cu": 1.5, "Au": -2})
    assert (made.facts["e0_Cu_eV"], made.facts["e0_Au_eV"]) == (1.5, -2.0)
    with pytest.raises(BadInput, match="the table has no energy for Au"):
        trained((dataset(few), data[1]), tmp_path, e0={"Cu": 1.5})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cutof_A": 4.0}, "unknown option 'cutof_A'. Did you mean 'cutoff_A'"),
        ({"degrees": {"nu1": 3, "nu5": 2}}, "unknown degree 'nu5'"),
        ({"pair_cutoffs_A": 3.0}, "pair_cutoffs_A is 3.0; it must be a table"),
        ({"pair_cutoffs_A": {"Cu": 3.0}}, "names 'Cu'; two symbols such as 'C-H' are needed"),
        ({"pair_cutoffs_A": {"Cu-Xy": 3.0}}, "names 'Cu-Xy'; two symbols"),
        ({"pair_cutoffs_A": {"Cu-Au-Cu": 3.0}}, "names 'Cu-Au-Cu'; two symbols"),
        ({"pair_cutoffs_A": {"Cu-H": 3.0}}, "names 'Cu-H', and the training frames hold only Cu, Au"),
        ({"pair_cutoffs_A": {"Cu-Au": 3.0, "Au-Cu": 3.0}}, "names 'Au-Cu' twice"),
        ({"pair_cutoffs_A": {"Cu-Au": "3"}}, "pair_cutoffs_A.Cu-Au is '3'"),
        ({"pair_cutoffs_A": {"Cu-Au": 5.0}}, "pair_cutoffs_A.Cu-Au is 5.0; above 0 up to cutoff_A = 4.5"),
        ({"pair_cutoffs_A": {"Cu-Au": 0}}, "pair_cutoffs_A.Cu-Au is 0; above 0"),
        ({"posterior": "all"}, "unknown posterior 'all'"),
        ({"n_members": 0}, "n_members is 0; from 1 to"),
        ({"n_members": 2.0}, "n_members is 2.0; it must be a whole number"),
        ({"degrees": 3}, "degrees is 3; it must be a table"),
        ({"cutoff_A": "4"}, "cutoff_A is '4'"),
        ({"cutoff_A": 0.0}, "cutoff_A is 0.0"),
        ({"l_max": 2.5}, "l_max is 2.5; it must be a whole number"),
        ({"forces_weight": -1.0}, "forces_weight is -1.0"),
        ({"energy_weight": True}, "energy_weight is True"),
        ({"wall_fraction": 1.5}, "wall_fraction is 1.5"),
        ({"e0": "averag"}, "unknown e0 'averag'. Did you mean 'average'"),
        ({"e0": 3}, "e0 is 3"),
        ({"e0": {"Xy": 1.0}}, "'Xy', which is no chemical symbol"),
        ({"energy_weight": 0, "forces_weight": 0, "stress_weight": 0}, "no weight"),
    ],
)
def test_wrong_options_are_refused(
    data: tuple[Dataset, Dataset], tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        trained((data[0].take([0]), data[1]), tmp_path, **options)


def test_data_that_cannot_be_fitted_are_refused(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no frames"):
        trained((data[0].take([]), data[1]), tmp_path)
    crowded = data[0].frames[1].copy()
    crowded.positions[1] = crowded.positions[0]
    broken = replace(data[0].take([0, 1]), frames=(data[0].frames[0], crowded))
    with pytest.raises(BadInput, match="a training frame cannot be used: frame 1: atoms 0 and 1 are"):
        trained((broken, data[1]), tmp_path)


def refuse_to_fit(*_arguments: Any, **_keywords: Any) -> None:
    raise RuntimeError("the fit has begun")


@pytest.mark.parametrize("label", ["energy", "forces", "stress"])
def test_a_validation_label_that_is_not_finite_is_refused_before_the_fit(
    data: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    monkeypatch.setattr(ace, "fit", refuse_to_fit)
    values = getattr(data[1], label).copy()
    values[-1] = np.nan
    with pytest.raises(BadInput, match=rf"a validation frame .* frame 7 \(7\): the label {label} is not finite"):
        trained((data[0], replace(data[1], **{label: values})), tmp_path)


def test_a_validation_frame_that_cannot_be_predicted_is_refused_before_the_fit(
    data: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ace, "fit", refuse_to_fit)
    strange, crowded = data[1].frames[1].copy(), data[1].frames[1].copy()
    strange.numbers[0] = 47
    crowded.positions[1] = crowded.positions[0]
    for frame, says in ((strange, "does not cover Ag"), (crowded, "atoms 0 and 1 are")):
        valid = replace(data[1], frames=(data[1].frames[0], frame, *data[1].frames[2:]))
        with pytest.raises(BadInput, match=rf"frame 1 \(1\): .*{says}"):
            trained((data[0], valid), tmp_path)


def test_a_label_of_no_stress_may_be_anything(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    n = len(data[1])
    valid = replace(data[1], stress=np.full((n, 3, 3), np.nan), has_stress=np.zeros(n, dtype=bool))
    made = trained((data[0].take(range(4)), valid), tmp_path)
    assert "valid_stress_rmse_meV_per_A3" not in made.facts


def test_what_the_data_leave_open_gets_a_note(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    few = data[0].take(range(4)), data[1]
    assert trained(few, tmp_path, pair_cutoffs_A={"Cu-Cu": 3.5}).notes == ()
    made = trained(few, tmp_path, energy_weight=0.0, pair_cutoffs_A={"Cu-Cu": 1.5, "Cu-Au": 1.5, "Au-Au": 3.5})
    assert made.notes == (
        "Energies had no weight in the fit: those of different compositions cannot be compared.",
        "No training frame has Cu-Cu, Cu-Au within the pair's own cutoff, though some lie within cutoff_A: "
        "what these pairs do to each other is undetermined.",
    )


def test_pairs_that_the_data_do_not_hold_get_no_note(tmp_path: Path) -> None:
    frames = dataset([Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3 + 0.1 * k]]) for k in range(3)] + [Atoms("Au")])
    made = trained((frames, frames), tmp_path, pair_cutoffs_A={"Cu-Au": 2.0, "Au-Au": 2.0})
    assert not any("own cutoff" in note for note in made.notes)


@pytest.mark.parametrize("name", ["ace-small", "ace-medium"])
def test_shipped_recipes_have_known_options(name: str) -> None:
    content = tomllib.loads((ROOT / "suites" / "models" / f"{name}.toml").read_text())
    assert content["spec"]["name"] == name
    assert set(content["recipe"]["options"]) <= set(DEFAULTS)
