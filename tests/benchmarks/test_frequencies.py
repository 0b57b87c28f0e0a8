"""Springs whose frequencies are known, stiffer springs, and models that lose a molecule on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from spring_molecules import NAMES, SpringCalculator, data, model, springs

from mlipbench.benchmarks.frequencies import METRICS, Frequencies
from mlipbench.benchmarks.minima import FAILED, MOVING, NOT_COVERED, REBONDED, RESHAPED
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import score
from mlipbench.core.model import Float, Model
from mlipbench.core.policy import counted, row_score
from mlipbench.core.view import Bars, Parity
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.physics.vibrations import compared, vibrations, zero_point_energy_eV
from mlipbench.testing.benchmarks import check_benchmark

MADE = Frequencies()
Answer = tuple[float, Float]


@pytest.fixture(scope="module")
def molecules() -> Dataset:
    return data()


def measured(wanted: Model, given: Dataset, context: Context, made: Frequencies = MADE) -> dict[tuple[str, str], float]:
    return {(v.metric, v.part): v.value for v in made.score(made.observe(wanted, given, context), given)}


def reference(given: Dataset) -> list[Float]:
    return [
        vibrations(given.observables[f"{uid}/hessian"], frame.positions, frame.get_masses()).wavenumbers_per_cm
        for uid, frame in zip(given.uid, given.frames, strict=True)
    ]


def check_right(wanted: Model, given: Dataset, context: Context) -> None:
    found = measured(wanted, given, context)
    assert {name for name, _ in found} == {metric.name for metric in METRICS}
    for metric in METRICS:
        for name, part in found:
            if name == metric.name:
                assert score(metric, found[name, part]) == 1.0, (name, part, found[name, part])


class Stretched(SpringCalculator):
    """The same energies when all molecules are a little larger."""

    def answer(self, atoms: Atoms) -> Answer:
        smaller = atoms.copy()
        smaller.positions = atoms.positions / 1.05
        energy, forces = super().answer(smaller)
        return energy, forces / 1.05


class Skewed(SpringCalculator):
    """Forces without a potential: a small curl about the minimum."""

    def answer(self, atoms: Atoms) -> Answer:
        energy, forces = super().answer(atoms)
        at_rest = self.known[atoms.get_chemical_formula()].atoms.positions
        away = (atoms.positions - at_rest).ravel()
        return energy, forces + 5.0 * (np.roll(away, 1) - np.roll(away, -1)).reshape(-1, 3)


class Saddle(SpringCalculator):
    """The springs push the first two atoms apart across the line between them, once they are off it."""

    def answer(self, atoms: Atoms) -> Answer:
        energy, forces = super().answer(atoms)
        if atoms.get_chemical_formula() == "CO2":
            bend = atoms.positions[0, :2] - atoms.positions[1:, :2].mean(axis=0)
            push = 30.0 * np.vstack([bend, -0.5 * bend, -0.5 * bend])
            forces = forces + np.column_stack([push, np.zeros(3)])
        return energy, forces


def test_the_springs_are_what_they_say() -> None:
    step = 1e-4
    for name in NAMES:
        one = springs(name)
        assert np.abs(one.forces(one.atoms.positions)[1]).max() < 1e-12
        for k in range(3 * len(one.atoms)):
            moved = one.atoms.positions.copy()
            moved.ravel()[k] += step
            up = one.forces(moved)[1]
            moved.ravel()[k] -= 2 * step
            np.testing.assert_allclose((one.forces(moved)[1] - up).ravel() / (2 * step), one.hessian()[k], atol=1e-4)


def test_the_reference_itself_is_right(molecules: Dataset, context: Context) -> None:
    check_right(model(), molecules, context)


@pytest.mark.parametrize(
    "calculator",
    [SpringCalculator(names=NAMES, scale=1.1), Stretched(names=NAMES), Skewed(names=NAMES), Saddle(names=NAMES)],
)
def test_the_check_has_teeth(calculator: Calculator, molecules: Dataset, context: Context) -> None:
    with pytest.raises(AssertionError):
        check_right(model(calculator), molecules, context)


def test_springs_four_per_cent_stiffer_are_two_per_cent_faster(molecules: Dataset, context: Context) -> None:
    found = measured(model(SpringCalculator(names=NAMES, scale=1.04)), molecules, context)
    more, theirs = 1.04**0.5 - 1.0, reference(molecules)
    together = np.concatenate(theirs)
    near = pytest.approx
    assert more == near(0.02, abs=2e-4)
    assert found["wavenumber_rmse", ""] == near(more * np.sqrt((together**2).mean()), rel=2e-3)
    assert found["wavenumber_sorted_rmse", ""] == near(found["wavenumber_rmse", ""], rel=1e-6)
    assert found["wavenumber_mean_error", ""] == near(more * together.mean(), rel=2e-3)
    for name, own in zip(NAMES, theirs, strict=True):
        assert found["wavenumber_rmse", f"molecule={name}"] == near(more * np.sqrt((own**2).mean()), rel=2e-3)
    high = together[together >= 2000.0]
    assert found["wavenumber_mean_error", "range=above 2000 cm⁻¹"] == near(more * high.mean(), rel=2e-3)
    zero_point = 1000.0 * more * np.array([zero_point_energy_eV(own) for own in theirs])
    assert found["zero_point_error", ""] == near(np.sqrt((zero_point**2).mean()), rel=2e-3)
    assert found["geometry_rmsd", ""] < 1e-6
    assert found["imaginary_modes", ""] == found["not_converged", ""] == 0.0


def test_every_ratio_is_that_of_the_root(molecules: Dataset, context: Context) -> None:
    """Mode by mode, with a step so small that finite differences are exact; softer springs have the other sign."""
    made = replace(MADE, step_A=2e-4)
    for scale in (1.04, 0.96):
        seen = made.observe(model(SpringCalculator(names=NAMES, scale=scale)), molecules, context)
        parity, _, signed, *_ = MADE.views(seen, molecules)
        assert isinstance(parity, Parity) and isinstance(signed, Bars)
        np.testing.assert_allclose(parity.predicted / parity.reference, scale**0.5, rtol=1e-6)
        assert (np.sign(signed.values) == np.sign(scale - 1.0)).all()
        values = {(v.metric, v.part): v.value for v in MADE.score(seen, molecules)}
        assert values["wavenumber_mean_error", ""] > 0.0


def test_a_larger_molecule_is_that_much_larger(molecules: Dataset, context: Context) -> None:
    found = measured(model(Stretched(names=NAMES)), molecules, context)
    size = np.concatenate([f.positions - f.positions.mean(axis=0) for f in molecules.frames])
    assert found["geometry_rmsd", ""] == pytest.approx(0.05 * np.sqrt((size**2).sum() / len(size)), rel=1e-2)


def test_forces_without_a_potential_are_seen(molecules: Dataset, context: Context) -> None:
    """Each row of the curl has two entries of 5 eV/Å²; its norm is 5 √(2 · 3n)."""
    found = measured(model(Skewed(names=NAMES)), molecules, context)
    curl = sum(50.0 * 3 * len(frame) for frame in molecules.frames)
    whole = sum((molecules.observables[f"{name}/hessian"] ** 2).sum() for name in NAMES)
    assert found["hessian_asymmetry", ""] == pytest.approx(np.sqrt(curl / (whole + curl)), rel=1e-3)


def test_a_saddle_has_imaginary_modes(molecules: Dataset, context: Context) -> None:
    found = measured(model(Saddle(names=NAMES)), molecules, context)
    n_modes = sum(len(own) for own in reference(molecules))
    assert found["imaginary_modes", ""] == pytest.approx(100.0 * 2 / n_modes)


class NeverRests(SpringCalculator):
    """Water is pushed on for ever."""

    def answer(self, atoms: Atoms) -> Answer:
        energy, forces = super().answer(atoms)
        return energy, forces + (0.5 if atoms.get_chemical_formula() == "H2O" else 0.0)


class Breaks(SpringCalculator):
    """A hydrogen atom of water flies away, until it is 3 Å out."""

    def answer(self, atoms: Atoms) -> Answer:
        energy, forces = super().answer(atoms)
        if atoms.get_chemical_formula() != "H2O":
            return energy, forces
        arm = atoms.positions[1] - atoms.positions[0]
        length = np.linalg.norm(arm)
        pull = -20.0 * (length - 3.0) / length * arm
        return energy, np.array([-pull, pull, np.zeros(3)])


class Straightens(SpringCalculator):
    """Springs that hold water straight."""

    def answer(self, atoms: Atoms) -> Answer:
        if atoms.get_chemical_formula() != "H2O":
            return super().answer(atoms)
        forces = np.zeros((3, 3))
        for i, j, k, rest in ((0, 1, 40.0, 0.95), (0, 2, 40.0, 0.95), (1, 2, 20.0, 2.4)):
            arm = atoms.positions[j] - atoms.positions[i]
            pull = k * (1.0 - rest / np.linalg.norm(arm)) * arm
            forces[i] += pull
            forces[j] -= pull
        return 0.0, forces


class Raises(SpringCalculator):
    """Fails on water."""

    def answer(self, atoms: Atoms) -> Answer:
        if atoms.get_chemical_formula() == "H2O":
            raise RuntimeError("no convergence")
        return super().answer(atoms)


class RaisesNearby(SpringCalculator):
    """Answers for water at its minimum alone."""

    def answer(self, atoms: Atoms) -> Answer:
        if atoms.get_chemical_formula() == "H2O" and not np.array_equal(
            atoms.positions, self.known["H2O"].atoms.positions
        ):
            raise RuntimeError("no convergence")
        return super().answer(atoms)


BROKEN: dict[int, list[Callable[..., SpringCalculator]]] = {
    FAILED: [Raises, RaisesNearby],
    MOVING: [NeverRests],
    REBONDED: [Breaks],
    RESHAPED: [Straightens],
}


@pytest.mark.parametrize(("reason", "kind"), [(reason, kind) for reason, kinds in BROKEN.items() for kind in kinds])
def test_one_molecule_is_lost_and_the_others_go_on(
    reason: int, kind: Callable[..., SpringCalculator], molecules: Dataset, context: Context
) -> None:
    made = replace(MADE, most_steps=300)
    seen = made.observe(model(kind(names=NAMES)), molecules, context)
    assert seen["reason"].tolist() == [reason, 0, 0, 0]
    found = {(v.metric, v.part): v for v in made.score(seen, molecules)}
    assert found["not_converged", ""].value == 25.0
    assert found["not_converged", ""].n == 4
    assert found["wavenumber_rmse", ""].value < 0.1
    assert found["wavenumber_rmse", ""].n == 3
    assert ("wavenumber_rmse", "molecule=H2O") not in found
    *_, left_out = made.views(seen, molecules)
    assert isinstance(left_out, Bars)
    assert left_out.values.tolist() == [3.0, 1.0]
    assert left_out.labels[1].endswith(": H2O")


def test_a_lost_molecule_is_named_and_costs(molecules: Dataset, context: Context) -> None:
    """The three others are exact; the fourth counts as bad."""
    for elements in (None, molecules.spec.elements):
        lost = model(Raises(names=NAMES), elements=elements)
        value = next(v for v in MADE.score(MADE.observe(lost, molecules, context), molecules) if not v.part)
        assert (value.metric, value.failed, value.n_all, value.n) == ("wavenumber_rmse", ("H2O",), 4, 3)
        assert counted(METRICS[0], value).value == pytest.approx(np.sqrt(100.0**2 / 4.0), abs=0.1)
    found = MADE.score(MADE.observe(model(elements=("H", "C", "O")), molecules, context), molecules)
    assert all((v.failed, v.n_all) == ((), 4) for v in found if not v.part)


def test_conformers_are_lost_together(molecules: Dataset, context: Context) -> None:
    given = replace(molecules, trajectory=("a", "a", "b", "b"))
    value = next(v for v in MADE.score(MADE.observe(model(Raises(names=NAMES)), given, context), given) if not v.part)
    assert value.failed == ("a",) and value.samples is not None and value.samples.units == ("b",)
    with pytest.raises(ModelFailure, match="H2O the model failed"):
        MADE.observe(model(Raises(names=NAMES)), replace(molecules, trajectory=("a",) * 4), context)


class Flat(SpringCalculator):
    def answer(self, atoms: Atoms) -> Answer:
        return 0.0, np.zeros((len(atoms), 3))


def test_no_forces_at_all_score_nothing(molecules: Dataset, context: Context) -> None:
    values = MADE.score(MADE.observe(model(Flat(names=NAMES)), molecules, context), molecules)
    value = next(v for v in values if v.metric == "wavenumber_rmse" and not v.part)
    assert value.zero == pytest.approx(100.0)  # every molecule is past the scale
    assert value.value == pytest.approx(np.sqrt((np.concatenate(reference(molecules)) ** 2).mean()))
    assert row_score(METRICS, values, MADE.expects(molecules)) == 0.0


def test_what_is_not_covered_is_left_out(molecules: Dataset, context: Context) -> None:
    seen = MADE.observe(model(elements=("H", "C", "O")), molecules, context)
    assert seen["reason"].tolist() == [0, 0, 0, NOT_COVERED]
    with pytest.raises(NotApplicable, match="covers no molecule of springs: H2O not covered"):
        MADE.observe(model(elements=("Li",)), molecules, context)


def test_nothing_left_is_the_models_failure(context: Context) -> None:
    alone = data(["H2O"])
    with pytest.raises(ModelFailure, match="H2O did not come to rest"):
        replace(MADE, most_steps=50).observe(model(NeverRests(names=NAMES)), alone, context)
    with pytest.raises(ModelFailure, match=r"H2O the model failed .*no convergence"):
        MADE.observe(model(Raises(names=NAMES)), alone, context)


def test_few_molecules_have_no_interval(molecules: Dataset, context: Context) -> None:
    stiff = model(SpringCalculator(names=NAMES, scale=1.04))
    for n, has in ((2, False), (3, True)):
        given = molecules.take(range(n))
        found = MADE.score(MADE.observe(stiff, given, context), given)
        assert all((v.low is not None) == has for v in found if v.metric == "zero_point_error")


def test_conformers_are_one_unit(molecules: Dataset, context: Context) -> None:
    given = replace(molecules, trajectory=("a", "a", "b", "b"))
    found = MADE.score(MADE.observe(model(), given, context), given)
    assert {v.n for v in found if not v.part} == {2}


def test_frames_without_hessian_and_lone_atoms_are_not_asked(molecules: Dataset, context: Context) -> None:
    some = {key: value for key, value in molecules.observables.items() if not key.startswith("CO2")}
    seen = MADE.observe(model(), replace(molecules, observables=some), context)
    assert seen["frame"].tolist() == [0, 2, 3]
    with pytest.raises(NotApplicable, match=r"an array 'uid/hessian' \(eV/Å²\) for each"):
        MADE.observe(model(), replace(molecules, observables={}), context)


def test_what_is_no_reference_is_refused(molecules: Dataset, context: Context) -> None:
    hessian = molecules.observables["H2O/hessian"]
    for given, text in (
        (replace(molecules, observables={"H2O/hessian": -hessian}), "H2O is no minimum of the reference"),
        (replace(molecules, observables={"H2O/hessian": hessian[:3]}), r"shape \(3, 9\); \(9, 9\) is needed"),
        (replace(molecules, forces=molecules.forces + 0.1), "largest force 0.173"),
        (replace(molecules, frames=(periodic(), *molecules.frames[1:])), "H2O is periodic"),
    ):
        with pytest.raises(BadInput, match=text):
            MADE.observe(model(), given, context)


def periodic() -> Atoms:
    atoms = springs("H2O").atoms.copy()
    atoms.set_cell([10.0] * 3)
    atoms.set_pbc(True)
    return atoms


@pytest.mark.parametrize("name", ["force_eV_A", "most_steps", "step_A"])
def test_parameters_must_be_positive(name: str, molecules: Dataset, context: Context) -> None:
    with pytest.raises(BadInput, match="must all be positive"):
        Frequencies(**{name: 0}).observe(model(), molecules, context)


def test_scores_need_no_model(molecules: Dataset, context: Context) -> None:
    """What is observed is enough to compare anew."""
    seen = MADE.observe(model(), molecules, context)
    frame = molecules.frames[0]
    found = compared(
        seen["hessian"][:81].reshape(9, 9), seen["positions"][:3], molecules.observables["H2O/hessian"],
        frame.positions, masses_u=frame.get_masses(),
    )  # fmt: skip
    np.testing.assert_allclose(found.matched, found.reference, rtol=1e-4)


def test_keeps_the_contract(molecules: Dataset) -> None:
    check_benchmark(MADE, model(SpringCalculator(names=NAMES, scale=1.1)), molecules, perfect=model())
    check_benchmark(replace(MADE, most_steps=50), model(NeverRests(names=NAMES)), molecules)


def test_numbers_stay_with_their_version(molecules: Dataset, context: Context) -> None:
    """When this fails, raise a version; see test_golden.py."""
    assert (MADE.about.observe_version, MADE.about.score_version) == (2, 2)
    found = measured(model(Stretched(names=NAMES, scale=1.2)), molecules, context)
    golden = {
        "wavenumber_rmse": 123.410551, "wavenumber_mean_error": 104.592778, "wavenumber_sorted_rmse": 123.410551,
        "zero_point_error": 48.4826074, "imaginary_modes": 0.0, "geometry_rmsd": 0.0493157663, "not_converged": 0.0,
    }  # fmt: skip
    assert {name: found[name, ""] for name in golden} == pytest.approx(golden, rel=1e-5)
