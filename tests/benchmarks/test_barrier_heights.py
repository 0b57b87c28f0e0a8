"""Barriers come back exactly, ions only where their charge is heard, and one failing species costs only its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase import Atoms
from known_energy import KnownEnergy

from mlipbench.benchmarks.barrier_heights import METRICS, BarrierHeights
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue, score
from mlipbench.core.model import Float, Model
from mlipbench.core.policy import metric_score
from mlipbench.core.view import Bars, Parity
from mlipbench.data import manifest
from mlipbench.errors import ModelFailure, NotApplicable
from mlipbench.physics.survival import clopper_pearson
from mlipbench.testing.benchmarks import check_benchmark

ALL = BarrierHeights(charged=True)


@pytest.fixture(scope="module")
def species() -> Dataset:
    return manifest.load(manifest.source("dbh24"))


def energies_of(barriers: Float, data: Dataset) -> Float:
    """Energies of all species that have these barriers, far from zero."""
    states, reactants = (data.observables[name].astype(int) for name in ("transition_state", "reactants"))
    rows = np.zeros((len(barriers), len(data)))
    for row, state, own in zip(rows, states, reactants, strict=True):
        row[state] = 1.0
        for k in own[own >= 0]:
            row[k] -= 1.0
    energy = np.linalg.lstsq(rows, barriers, rcond=None)[0]
    np.testing.assert_allclose(rows @ energy, barriers, atol=1e-9)
    # Energies of lone atoms and a term in the charge cancel in every barrier.
    return np.asarray(
        energy + [float(-30.0 * frame.numbers.sum() - 4.0 * frame.info["charge"]) for frame in data.frames]
    )


def is_same(one: Atoms, other: Atoms) -> bool:
    return np.array_equal(one.numbers, other.numbers) and np.array_equal(one.positions, other.positions)


@dataclass(frozen=True)
class Species:
    """The energies of species that have the reference's barriers, changed."""

    data: Dataset
    changed: Callable[[Float], Float] = lambda barriers: barriers
    hears_charge: bool = True

    def __call__(self, atoms: Atoms) -> float:
        energy = energies_of(self.changed(self.data.observables["barrier_eV"]), self.data)
        for k, frame in enumerate(self.data.frames):
            if is_same(frame, atoms) and (not self.hears_charge or frame.info["charge"] == atoms.info.get("charge")):
                return float(energy[k])
        return 0.0


def measured(
    model: Model, data: Dataset, context: Context, made: BarrierHeights = ALL
) -> dict[tuple[str, str], MetricValue]:
    return {(v.metric, v.part): v for v in made.score(made.observe(model, data, context), data)}


def check_exact(energy: Callable[[Atoms], float], data: Dataset, context: Context) -> None:
    found = measured(KnownEnergy(energy=energy), data, context)
    definition = {metric.name: metric for metric in METRICS}
    assert {name for name, _ in found} == set(definition)
    for (name, _), value in found.items():
        assert score(definition[name], value.value) > 0.999
        assert value.value < 1e-4


def test_the_reference_is_exact(species: Dataset, context: Context) -> None:
    check_exact(Species(species), species, context)


WRONG: dict[str, Callable[[Dataset], Callable[[Atoms], float]]] = {
    "a constant per species": lambda data: lambda atoms: Species(data)(atoms) + 0.5,
    "no barriers": lambda data: Species(data, lambda barriers: 0.0 * barriers),
    "the reverse for the forward": lambda data: Species(data, lambda b: b.reshape(-1, 2)[:, ::-1].ravel()),
    "kJ/mol for kcal/mol": lambda data: Species(data, lambda barriers: barriers / 4.184),
    "one species off": lambda data: lambda atoms: Species(data)(atoms) + 0.3 * (str(atoms.symbols) == "HCl"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_check_has_teeth(name: str, species: Dataset, context: Context) -> None:
    with pytest.raises(AssertionError):
        check_exact(WRONG[name](species), species, context)


def test_errors_are_those_by_hand(species: Dataset, context: Context) -> None:
    """A fifth too high and 0.1 eV too low."""
    wrong = Species(species, lambda barriers: 1.2 * barriers - 0.1)
    found = measured(KnownEnergy(energy=wrong), species, context)
    error = 1e3 * (0.2 * species.observables["barrier_eV"] - 0.1)
    states = species.observables["transition_state"].astype(int)
    kinds = np.array(species.config_type)[states]
    parts = {"": np.ones(24, dtype=bool)} | {f"config_type={kind}": kinds == kind for kind in set(kinds.tolist())}
    assert len(parts) == 5
    for part, own in parts.items():
        expected = (np.sqrt(np.mean(error[own] ** 2)), np.mean(np.abs(error[own])), abs(np.mean(error[own])))
        names = ("barrier_rmse", "barrier_mae", "barrier_bias")
        assert [found[name, part].value for name in names] == pytest.approx(expected, rel=1e-5)
        assert found["barrier_rmse", part].n == (12 if part == "" else 3)


def test_ions_are_left_alone_unless_asked_for(species: Dataset, context: Context) -> None:
    model = KnownEnergy(energy=Species(species, lambda barriers: barriers + 0.05))
    made = BarrierHeights()
    found = measured(model, species, context, made)
    assert not any(atoms.info["charge"] for atoms in model.asked)
    assert found["barrier_rmse", ""].n == 9
    assert found["barrier_rmse", ""].value == pytest.approx(50.0, rel=1e-5)
    assert ("barrier_rmse", "config_type=nucleophilic_substitution") not in found
    (parity,) = (
        view for view in made.views(made.observe(model, species, context), species) if isinstance(view, Parity)
    )
    assert len(parity.reference) == 18
    assert found["not_computed", ""].n == 9


def test_species_know_their_charge_and_spin(species: Dataset, context: Context) -> None:
    model = KnownEnergy(energy=Species(species))
    ALL.observe(model, species, context)
    first = model.asked[:38]
    assert model.calls[0] == 38
    assert {atoms.info["charge"] for atoms in first} == {0, -1}
    assert {atoms.info["spin"] for atoms in first} == {1, 2, 3}


def test_a_model_that_is_deaf_to_charge_is_not_scored_on_ions(species: Dataset, context: Context) -> None:
    deaf = KnownEnergy(energy=Species(species, hears_charge=False))
    with pytest.raises(NotApplicable, match="the same energy with and without their charge"):
        ALL.observe(deaf, species, context)
    assert measured(deaf, species, context, BarrierHeights())["barrier_rmse", ""].value < 1e-4

    def only_with_charge(atoms: Atoms) -> float:
        if "charge" not in atoms.info:
            raise ModelFailure("an odd number of electrons")
        return Species(species)(atoms)

    assert measured(KnownEnergy(energy=only_with_charge), species, context)["barrier_rmse", ""].n == 12


def failing(data: Dataset, *names: str, error: type[Exception] = ModelFailure) -> Callable[[Atoms], float]:
    """The reference, which raises for some species."""

    def energy(atoms: Atoms) -> float:
        if any(is_same(data.frames[data.uid.index(name)], atoms) for name in names):
            raise error("SCF not converged")
        return Species(data, lambda barriers: barriers + 0.05)(atoms)

    return energy


@pytest.mark.parametrize(
    ("name", "n_barriers", "n_lost"),
    [("dbh24_HN2", 16, 1), ("dbh24_tst_H_N2__HN2", 16, 1), ("dbh24_OH", 12, 3), ("dbh24_H2", 14, 2)],
)
def test_a_failing_species_costs_its_reactions_only(
    name: str, n_barriers: int, n_lost: int, species: Dataset, context: Context
) -> None:
    made, model = BarrierHeights(), KnownEnergy(energy=failing(species, name))
    seen = made.observe(model, species, context)
    found = {v.metric: v for v in made.score(seen, species) if not v.part}
    # OH is a reactant of HAT 1 (reverse), HT 1 and HT 2.
    assert found["not_computed"].value == pytest.approx(n_lost / 9)
    assert (found["not_computed"].low, found["not_computed"].high) == pytest.approx(clopper_pearson(n_lost, 9))
    assert found["barrier_rmse"].value == pytest.approx(50.0, rel=1e-5)
    assert (found["barrier_rmse"].n, found["barrier_rmse"].n_all) == (9 - n_lost, 9)
    assert len(found["barrier_rmse"].failed) == n_lost
    assert metric_score(METRICS[0], found["barrier_rmse"]) < 1.0
    views = made.views(seen, species)
    assert isinstance(views[0], Parity)
    assert len(views[0].reference) == n_barriers
    assert isinstance(views[-1], Bars)
    assert views[-1].labels[1] == f"left out ({name}): SCF not converged"
    assert len(set(model.calls)) == 2, "all at once, then one by one"


def test_an_element_that_is_not_covered_is_no_failure(species: Dataset, context: Context) -> None:
    exact = Species(species)
    found = measured(KnownEnergy(energy=exact, elements=("H", "C", "N", "O")), species, context, BarrierHeights())
    assert found["barrier_rmse", ""].n == 6  # without HAT 2 (Cl), HAT 3 (F, Cl) and HT 3 (S)
    assert (found["not_computed", ""].value, found["not_computed", ""].n) == (0.0, 6)
    assert (found["barrier_rmse", ""].failed, found["barrier_rmse", ""].n_all) == ((), 9)


def test_a_model_without_barriers_scores_nothing(species: Dataset, context: Context) -> None:
    """Its errors are the barriers themselves, none of a reaction above the 1 eV that is bad."""
    value = measured(KnownEnergy(energy=lambda _: 0.0), species, context, BarrierHeights())["barrier_rmse", ""]
    state, _ = (species.observables[name].astype(int) for name in ("transition_state", "reactants"))
    neutral = [k for k, frame in enumerate(state) if not species.frames[frame].info.get("charge")]
    names = np.array([species.trajectory[state[k]] for k in neutral])
    height = 1000.0 * species.observables["barrier_eV"][neutral]
    each = [np.sqrt((height[names == name] ** 2).mean()) for name in set(names.tolist())]
    assert value.zero == pytest.approx(np.sqrt((np.minimum(each, 1000.0) ** 2).mean()))
    assert metric_score(METRICS[0], value) == pytest.approx(0.0, abs=1e-12)


def test_nothing_to_measure(species: Dataset, data: Dataset, context: Context) -> None:
    made = BarrierHeights()
    with pytest.raises(NotApplicable, match="does not cover H"):
        made.observe(KnownEnergy(energy=lambda _: 0.0, elements=("Fe",)), species, context)
    with pytest.raises(ModelFailure, match="SCF not converged"):
        made.observe(KnownEnergy(energy=failing(species, *species.uid)), species, context)
    with pytest.raises(NotApplicable, match="has no barrier_eV, transition_state, reactants"):
        made.observe(KnownEnergy(energy=lambda _: 0.0), data, context)
    with pytest.raises(NotApplicable, match="these 3 frames are not all species"):
        made.observe(KnownEnergy(energy=lambda _: 0.0), species.take([0, 1, 2]), context)
    ions = {name: array[6:12] for name, array in species.observables.items()}
    with pytest.raises(NotApplicable, match=r"only reactions of ions; ask with charged = true"):
        made.observe(KnownEnergy(energy=lambda _: 0.0), replace(species, observables=ions), context)


def test_signs_are_shown_by_reaction(species: Dataset, context: Context) -> None:
    made = BarrierHeights()
    seen = made.observe(KnownEnergy(energy=Species(species, lambda b: b - 0.1)), species, context)
    bars = {view.title: view for view in made.views(seen, species)}["Mean signed error by reaction"]
    assert isinstance(bars, Bars)
    assert bars.labels == ("HAT 1", "HAT 2", "HAT 3", "HT 1", "HT 2", "HT 3", "UA 1", "UA 2", "UA 3")
    np.testing.assert_allclose(bars.values, -100.0, rtol=1e-5)


def test_keeps_the_contract(species: Dataset) -> None:
    low = KnownEnergy(energy=Species(species, lambda barriers: 0.9 * barriers))
    check_benchmark(ALL, low, species, perfect=KnownEnergy(energy=Species(species)))
    check_benchmark(BarrierHeights(), KnownEnergy(energy=failing(species, "dbh24_HN2")), species)


def test_numbers_stay_with_their_version(species: Dataset, context: Context) -> None:
    """When this fails, raise a version; see test_golden.py."""
    about = BarrierHeights.about
    assert (about.observe_version, about.score_version) == (2, 2)
    bent = KnownEnergy(energy=Species(species, lambda barriers: 0.8 * barriers - 0.05 * barriers**2))
    found = {name: value.value for (name, part), value in measured(bent, species, context).items() if not part}
    golden = {"barrier_rmse": 399.315239, "barrier_mae": 257.618452, "barrier_bias": 255.901626, "not_computed": 0.0}
    assert found == pytest.approx(golden, rel=1e-6)
