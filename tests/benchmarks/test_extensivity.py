"""Parts that do not know of each other add up; what is left over has its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase import Atoms
from pair_model import PairModel, labelled
from potentials import COULOMB_EV_A, GlobalTerm, Potential, charges, held_to_the_centre, square_of_size
from site_model import Described, Sums

from mlipbench.benchmarks.extensivity import METRICS, Extensivity
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import score
from mlipbench.core.model import Float, Model, Predictions
from mlipbench.core.view import Lines
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.testing.benchmarks import check_benchmark

MADE = Extensivity(n_molecules=4)


@pytest.fixture(scope="module")
def molecules() -> Dataset:
    return labelled(["molecule"], n_trajectories=4, n_frames=1)


@pytest.fixture(scope="module")
def atoms() -> Dataset:
    """Lone oxygen atoms."""
    return labelled(["atom"], n_trajectories=4, n_frames=1)


def measured(model: Model, data: Dataset, context: Context) -> dict[tuple[str, str], float]:
    return {(v.metric, v.part): v.value for v in MADE.score(MADE.observe(model, data, context), data)}


def check_extensive(model: Model, data: Dataset, context: Context) -> None:
    found = measured(model, data, context)
    of_features = {metric.name for metric in METRICS if metric.name.endswith("_features")}
    assert {name for name, _ in found} in (of_features, {metric.name for metric in METRICS} - of_features)
    for metric in METRICS:
        if (metric.name, "") not in found:
            continue
        assert score(metric, found[metric.name, ""]) == 1.0, metric.name


def test_short_sighted_models_add_up(molecules: Dataset, context: Context) -> None:
    check_extensive(PairModel(), molecules, context)
    check_extensive(Potential(), molecules, context)


def test_charges_decay_and_pass(molecules: Dataset, atoms: Dataset, context: Context) -> None:
    """Six charges of one electron in each molecule: as powers of the distance, which is no fault."""
    for data in (molecules, atoms):
        found = measured(GlobalTerm(term=charges), data, context)
        assert found["pair_energy", "distance=100 Å"] > 50.0
        for metric in METRICS:
            if (metric.name, "") in found and not metric.name.startswith("atoms"):
                assert score(metric, found[metric.name, ""]) > 0.0, found


@pytest.mark.parametrize("term", [square_of_size, held_to_the_centre])
def test_the_check_has_teeth(term: object, molecules: Dataset, context: Context) -> None:
    with pytest.raises(AssertionError):
        check_extensive(GlobalTerm(term=term), molecules, context)  # type: ignore[arg-type]


def test_square_of_size(molecules: Dataset, context: Context) -> None:
    """With c n²: two of six atoms leave 2 c 6² for 12 atoms, three 6 c 6² for 18, six atoms c (6² - 6) for 6."""
    found = measured(GlobalTerm(term=square_of_size), molecules, context)
    for distance in ("25 Å", "50 Å", "100 Å"):
        part = f"distance={distance}"
        assert found["pair_energy", part] == pytest.approx(2 * 36 / 12)
        assert found["copies_energy", part] == pytest.approx(6 * 36 / 18)
        assert found["atoms_energy", part] == pytest.approx(30 / 6)
    assert found["atoms_force", ""] == 0.0
    assert found["pair_force", ""] < 1e-9


def test_two_charges(atoms: Dataset, context: Context) -> None:
    """Coulomb's law between two atoms, and its decay; nothing to scatter in a single atom."""
    found = measured(GlobalTerm(term=charges), atoms, context)
    for d in (25.0, 50.0, 100.0):
        part = f"distance={d:g} Å"
        assert found["pair_energy", part] == pytest.approx(1000.0 * COULOMB_EV_A / d / 2, rel=1e-6)
        assert found["pair_force", part] == pytest.approx(1000.0 * COULOMB_EV_A / d**2 / 3**0.5, rel=1e-6)
    assert found["pair_energy", ""] < 1e-9
    assert found["copies_force", ""] < 1e-9
    assert not [name for name, _ in found if name.startswith("atoms")]


def test_figure_shows_the_decay(atoms: Dataset, context: Context) -> None:
    energy, force = MADE.views(MADE.observe(GlobalTerm(term=charges), atoms, context), atoms)
    assert isinstance(energy, Lines)
    assert isinstance(force, Lines)
    for view, power in ((energy, 1.0), (force, 2.0)):
        slope = np.diff(np.log(view.y[0])) / np.diff(np.log(view.x))
        np.testing.assert_allclose(slope, -power, atol=1e-6)


def counting(power: float) -> Described:
    """The sums of a short-sighted descriptor, and a feature that every other atom adds r^-power to."""
    local = Sums()

    def of_frame(atoms: Atoms) -> Float:
        distance = atoms.get_all_distances() + np.diag(np.full(len(atoms), np.inf))
        added = (distance**-power if power else np.isfinite(distance)).sum(axis=1)
        return np.column_stack([local.of_frame(atoms), added])

    return Described(function=of_frame)


def test_features_of_short_sighted_descriptors_stay(molecules: Dataset, context: Context) -> None:
    check_extensive(Sums(), molecules, context)


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_the_check_of_features_has_teeth(power: float, molecules: Dataset, context: Context) -> None:
    with pytest.raises(AssertionError):
        check_extensive(counting(power), molecules, context)


def test_features_that_count_atoms_change_by_their_share(molecules: Dataset, context: Context) -> None:
    """Alone, each of six atoms counts 5; another molecule adds 6. All four features have equal shares of the norm."""
    found = measured(counting(0.0), molecules, context)
    assert found["pair_features", ""] == pytest.approx(6 / 5 / 2, rel=1e-5)
    assert found["copies_features", ""] == pytest.approx(12 / 5 / 2, rel=1e-5)
    assert found["atoms_features", "distance=25 Å"] == pytest.approx(1 / 2, rel=1e-5)


def test_features_of_a_molecule_decay_with_the_distance(molecules: Dataset, context: Context) -> None:
    found = measured(counting(1.0), molecules, context)
    near, far = (found["pair_features", f"distance={d} Å"] for d in (50, 100))
    assert near / far == pytest.approx(2.0, rel=0.05)


class SitesOnly(Potential):
    """Its energy is known atom by atom, and it predicts no forces."""

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        raise NotApplicable("no forces here")


def test_site_energies_are_one_feature(molecules: Dataset, context: Context) -> None:
    check_extensive(SitesOnly(), molecules, context)


def test_lone_atoms_tell_nothing_of_features(atoms: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="what it says of the atom alone"):
        measured(Sums(), atoms, context)


@dataclass(frozen=True)
class Pushes(PairModel):
    """A constant force on every atom, which no energy has."""

    def answer(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        energy, forces, stress = super().answer(atoms)
        return energy, forces + np.array([0.003, 0.0, 0.0]), stress


def test_lone_atoms_must_have_no_force(molecules: Dataset, context: Context) -> None:
    found = measured(Pushes(), molecules, context)
    assert found["atoms_force", ""] == pytest.approx(3.0 / 3**0.5)
    assert found["pair_force", ""] < 1e-9


@dataclass(frozen=True)
class Refuses(PairModel):
    """Does not cover lone atoms, or nothing at all."""

    at_least: int = 2

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        if any(len(atoms) < self.at_least for atoms in frames):
            raise NotApplicable("too small for this model")
        return super().predict(frames)


def test_what_a_model_does_not_cover_is_left_out(molecules: Dataset, context: Context) -> None:
    names = {name.split("_")[0] for name, _ in measured(Refuses(), molecules, context)}
    assert names == {"pair", "copies"}
    with pytest.raises(NotApplicable, match="too small"):
        measured(Refuses(at_least=100), molecules, context)


def test_parts_keep_their_distance(molecules: Dataset, context: Context) -> None:
    asked: list[Atoms] = []

    @dataclass(frozen=True)
    class Recording(PairModel):
        def predict(self, frames: Sequence[Atoms]) -> Predictions:
            asked.extend(frames)
            return super().predict(frames)

    replace(MADE, distances_A=(40.0,)).observe(Recording(), molecules, context)
    for one in asked:
        distances = one.get_all_distances()
        is_near = distances < 5.0
        assert distances[~is_near].min(initial=np.inf) >= 40.0 - 1e-9
    assert {len(one) for one in asked} == {1, 6, 12, 18}


def test_charges_of_ions_add_up(context: Context) -> None:
    asked: list[Atoms] = []

    @dataclass(frozen=True)
    class Recording(PairModel):
        def predict(self, frames: Sequence[Atoms]) -> Predictions:
            asked.extend(frames)
            return super().predict(frames)

    ions = labelled(["atom"], n_trajectories=2, n_frames=1)
    ions = replace(ions, molecule_charges=((2,), (2,)))
    MADE.observe(Recording(), ions, context)
    assert {(len(one), one.info["charge"]) for one in asked} == {(1, 2), (2, 4), (3, 6)}


@pytest.mark.parametrize("distances_A", [(), (0.0, 1.0), (50.0, 25.0), (50.0, 50.0)])
def test_distances_must_make_sense(distances_A: tuple[float, ...], atoms: Dataset, context: Context) -> None:
    with pytest.raises(BadInput, match="give positive distances in Å, ascending"):
        Extensivity(distances_A=distances_A).observe(PairModel(), atoms, context)


def test_keeps_the_contract(molecules: Dataset) -> None:
    check_benchmark(Extensivity(n_molecules=2), PairModel(scale=1.1), molecules, perfect=PairModel())
    check_benchmark(Extensivity(n_molecules=2), Sums(), molecules)


def test_numbers_stay_with_their_version(molecules: Dataset, context: Context) -> None:
    """When this fails, raise a version; see test_golden.py."""
    assert (MADE.about.observe_version, MADE.about.score_version) == (2, 2)
    found = measured(GlobalTerm(term=held_to_the_centre), molecules, context)
    golden = {
        "pair_energy": 3027.75595, "pair_force": 53.3428928, "copies_energy": 5375.44332, "copies_force": 71.0729359,
        "atoms_energy": 7595.48611, "atoms_force": 84.1969143,
    }  # fmt: skip
    assert {name: found[name, ""] for name in golden} == pytest.approx(golden, rel=1e-6)
