"""Does the one know nothing, and the other the molecules alone and nothing else?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.calculators.fd import calculate_numerical_stress

from mlipbench.benchmarks.energy_force_stress import EnergyForceStress
from mlipbench.benchmarks.intra_inter import IntraInter
from mlipbench.core.benchmark import Benchmark, Context, no_progress
from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.core.model import Model, ModelSpec
from mlipbench.data import manifest
from mlipbench.engine.ask import asked
from mlipbench.engine.run import attempt
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.models import load
from mlipbench.models.entries import read_model
from mlipbench.models.reference import FromLabels, NoInteraction
from mlipbench.models.toy import Springs
from mlipbench.physics.molecules import split_by_molecule
from mlipbench.testing.frames import small_frames
from mlipbench.testing.models import check_model

GIVES_EV = 2.5  # energy of a pair of molecules, which only the whole has


def alone(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Return the energy and forces of two waters that do not act on each other."""
    energy, forces = 0.0, np.zeros((len(atoms), 3))
    for part in split_by_molecule(atoms.positions, atoms.cell.array, atoms.pbc, np.array([0, 0, 0, 1, 1, 1])):
        water = Atoms(atoms.numbers[part.atoms], part.positions, calculator=Springs(length_A=1.1))
        energy += water.get_potential_energy()
        forces[part.atoms] = water.get_forces()
    return energy, forces


class Alone(Calculator):  # type: ignore[misc]
    """The same as a calculator, for derivatives."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy"]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = None) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] = self.results["free_energy"] = alone(self.atoms)[0]


def waters(*, in_cell: bool) -> Atoms:
    """Return two waters; in a cell, both are cut by its faces."""
    rng = np.random.default_rng(4)
    both = molecule("H2O") + molecule("H2O")
    both.positions[3:] += [0.0, 0.0, 3.1]
    both.positions += rng.normal(scale=0.06, size=(6, 3))
    if in_cell:
        both.set_cell([[6.0, 0.0, 0.0], [1.0, 6.5, 0.0], [0.0, -0.8, 7.0]])
        both.pbc = True
        both.wrap()
    return both


def data_of(*frames: Atoms, sha256: str = "0" * 64, with_molecules: bool = True, shift_eV: float = 0.0) -> Dataset:
    said = [alone(frame) for frame in frames]
    n = len(frames)
    spec = DatasetSpec(
        name="d", version="1", level_of_theory="springs", licence="CC0-1.0", citation=(), elements=("H", "O"),
        sha256=sha256,
    )  # fmt: skip
    return Dataset(
        spec=spec, frames=frames, uid=tuple(map(str, range(n))), energy=np.full(n, GIVES_EV),
        forces=np.ones((6 * n, 3)), stress=np.zeros((n, 3, 3)), has_stress=np.zeros(n, bool),
        trajectory=("t",) * n, config_type=("c",) * n,
        molecule=np.tile([0, 0, 0, 1, 1, 1], n) if with_molecules else None,
        energy_intra=np.array([energy + shift_eV for energy, _ in said]),
        forces_intra=np.concatenate([forces for _, forces in said]),
    )  # fmt: skip


def reference(name: str) -> Model:
    return load(read_model(name).spec, device="cpu")


def knowing(data: Dataset) -> Model:
    made = reference("no-interaction")
    assert isinstance(made, FromLabels)
    return made.knowing(data)


@pytest.mark.parametrize("with_molecules", [True, False])
def test_its_stress_is_the_derivative_of_its_energy_by_the_strain(with_molecules: bool) -> None:
    frame = waters(in_cell=True)
    said = knowing(data_of(frame, with_molecules=with_molecules)).predict([frame])
    assert np.abs(split_by_molecule(frame.positions, frame.cell.array, frame.pbc, np.array([0, 0, 0, 1, 1, 1]))[0]
                  .positions - frame.positions[:3]).max() > 1.0, "a molecule is cut"  # fmt: skip
    frame.calc = Alone()
    wanted = calculate_numerical_stress(frame, eps=1e-5, voigt=False)
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(said.stress[0], wanted, atol=1e-8)
    assert said.has_stress.all()


def test_it_answers_the_labels_of_frames_and_of_molecules_taken_out() -> None:
    frames = waters(in_cell=True), waters(in_cell=False)
    data = data_of(*frames)
    model = knowing(data)
    said = model.predict(frames)
    np.testing.assert_array_equal(said.energy, data.energy_intra)
    np.testing.assert_array_equal(said.forces, data.forces_intra)
    assert said.has_stress.tolist() == [True, False]
    parts = split_by_molecule(frames[0].positions, frames[0].cell.array, frames[0].pbc, data.molecule[:6])  # type: ignore[index]
    taken = [Atoms(frames[0].numbers[part.atoms], part.positions + 17.0) for part in parts]
    lone = model.predict(taken)
    np.testing.assert_array_equal(lone.forces, data.forces_intra[:6])  # type: ignore[index]
    assert lone.energy.sum() == pytest.approx(data.energy_intra[0], abs=1e-12)  # type: ignore[index]
    calculated = frames[0].copy()
    calculated.calc = model.calculator()
    assert calculated.get_potential_energy() == said.energy[0]
    assert calculated.get_stress(voigt=False) == pytest.approx(said.stress[0], abs=1e-15)


def moved(frame: Atoms) -> Atoms:
    other = frame.copy()
    other.positions[2, 1] += 1e-4
    return other


def in_other_order(frame: Atoms) -> Atoms:
    return frame[[1, 0, 2, 3, 4, 5]]


def stretched(frame: Atoms) -> Atoms:
    other = frame.copy()
    other.set_cell(other.cell.array * 1.001)
    return other


def without_cell(frame: Atoms) -> Atoms:
    other = frame.copy()
    other.pbc = False
    return other


@pytest.mark.parametrize("change", [moved, in_other_order, stretched, without_cell])
def test_it_does_not_answer_for_what_the_labels_do_not_hold(change: Any) -> None:
    frame = waters(in_cell=True)
    model = knowing(data_of(frame))
    model.predict([frame])
    with pytest.raises(NotApplicable, match="frame 1: no-interaction knows the frames of the data"):
        model.predict([frame, change(frame)])


def test_without_vacuum_labels_or_data_it_has_no_answer() -> None:
    frame = waters(in_cell=False)
    with pytest.raises(NotApplicable, match="d has none"):
        knowing(replace(data_of(frame), energy_intra=None))
    with pytest.raises(NotApplicable, match="frame 0"):
        reference("no-interaction").predict([frame])


def test_a_remembered_answer_is_that_of_the_data() -> None:
    frame = waters(in_cell=False)
    one, other = (knowing(data_of(frame, sha256=str(k) * 64, shift_eV=float(k))) for k in (1, 2))
    said = [asked(model, attempt, remember=True).predict([frame]).energy[0] for model in (one, other)]
    assert said[1] - said[0] == pytest.approx(1.0, abs=1e-12)


def test_a_frame_whose_molecules_have_no_end_has_no_stress() -> None:
    chain = Atoms("OHHOHH", waters(in_cell=False).positions, cell=[2.0, 2.0, 2.0], pbc=True)
    said = knowing(replace(data_of(waters(in_cell=False)), frames=(chain,))).predict([chain])
    assert said.has_stress.tolist() == [False]


def test_zero_keeps_the_contract() -> None:
    model = reference("zero")
    check_model(model, small_frames(["H", "Cs", "U"]))
    said = model.predict(small_frames(["H", "C", "O"]))
    assert not said.energy.any()
    assert not said.forces.any()
    assert not said.stress.any()
    assert said.has_stress.tolist() == [frame.pbc.all() for frame in small_frames(["H", "C", "O"])]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"answers": "zeor"}, r"model m: unknown value of options\.answers 'zeor'\. Did you mean 'zero'"),
        ({}, r"unknown value of options\.answers ''"),
        ({"answers": "zero", "answer": "zero"}, "unknown option 'answer'. Did you mean 'answers'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load(ModelSpec(name="m", kind="reference", options=options), device="cpu")


# ---- on the data that ship -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def test_split() -> Dataset:
    return manifest.load(manifest.source("ecemc_gfn1")).split("test")


def values(benchmark: Benchmark, model: Model, data: Dataset) -> dict[str, float]:
    seen = benchmark.observe(model, data, Context(seed=0, device="cpu", progress=no_progress))
    return {value.metric: value.value for value in benchmark.score(seen, data) if not value.part}


def test_zero_is_as_wrong_as_the_labels_are_large(test_split: Dataset) -> None:
    found = values(EnergyForceStress(), reference("zero"), test_split)
    assert found["force_relative_rmse"] == pytest.approx(1.0, abs=1e-6)
    assert found["force_rmse"] == pytest.approx(1e3 * np.sqrt((test_split.forces**2).mean()), rel=1e-9)
    assert found["energy_shape_relative_rmse"] == pytest.approx(1.0, abs=1e-3)


def test_no_interaction_has_all_within_molecules_and_nothing_between(test_split: Dataset) -> None:
    model = knowing(test_split)
    found = values(IntraInter(), model, test_split)
    assert found["intra_force_rmse"] == 0.0
    assert found["intra_energy_rmse"] == pytest.approx(0.0, abs=1e-8)
    assert found["inter_force_relative_rmse"] == pytest.approx(1.0, abs=1e-3)
    errors = values(EnergyForceStress(), model, test_split)
    assert 0.05 < errors["force_relative_rmse"] < 0.2
    assert errors["stress_rmse"] > 0.1
    assert isinstance(model, NoInteraction)
