"""The reach of a model is found from below, and what is felt beyond it is caught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase import Atoms
from pair_model import CUTOFF_A, PairModel, labelled
from potentials import CUTOFF_A as RC_A
from potentials import Embedded, GlobalTerm, Potential, charges, held_to_the_centre, square_of_size
from site_model import Described

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.features import ace_features, soap_features
from mlipbench.ace.potential import LinearAce
from mlipbench.ace.soap import Soap
from mlipbench.benchmarks.locality import METRICS, Locality, string
from mlipbench.benchmarks.pieces import pieces
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import score
from mlipbench.core.model import Float, Model, Predictions
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.testing.benchmarks import check_benchmark

MADE = Locality(n_strings=2, length_A=44.0, n_moved=16)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return labelled(["molecule", "liquid"], n_trajectories=2, n_frames=1)


def measured(model: Model, data: Dataset, context: Context) -> dict[str, float]:
    return {v.metric: v.value for v in MADE.score(MADE.observe(model, data, context), data)}


@dataclass(frozen=True)
class Ace(Potential):
    """A linear ACE with random coefficients."""

    potential: LinearAce | None = None

    def answer(self, atoms: Atoms) -> tuple[Float, Float]:
        assert self.potential is not None
        found = self.potential.evaluate(atoms)
        return found.site_energies, found.forces


def random_ace(cutoff_A: float) -> Ace:
    basis = Basis(numbers=(1, 3, 6, 8), cutoff_A=cutoff_A, degrees=(6.0, 4.0), l_max=1)
    weights = np.random.default_rng(0).normal(size=(4, functions(basis).n_functions))
    return Ace(potential=LinearAce(basis=basis, e0_eV=np.zeros(4), weights=weights, wall_reach_A=np.zeros((4, 4))))


def test_pair_potential_is_felt_up_to_its_cutoff(data: Dataset, context: Context) -> None:
    found = measured(Potential(), data, context)
    assert 0.97 * RC_A < found["receptive_field_energy"] <= RC_A
    assert 0.97 * RC_A < found["receptive_field_force"] <= RC_A
    assert found["leak_energy"] == found["leak_force"] == 0.0


def test_many_body_forces_are_felt_twice_as_far(data: Dataset, context: Context) -> None:
    found = measured(random_ace(3.5), data, context)
    assert 0.97 * 3.5 < found["receptive_field_energy"] <= 3.5
    assert 0.9 * 7.0 < found["receptive_field_force"] <= 7.0
    assert found["leak_energy"] == found["leak_force"] == 0.0


def test_passed_on_messages_reach_two_cutoffs(data: Dataset, context: Context) -> None:
    found = measured(Embedded(), data, context)
    assert 0.9 * 2 * RC_A < found["receptive_field_energy"] <= 2 * RC_A


def test_without_site_energies_forces_are_enough(data: Dataset, context: Context) -> None:
    found = measured(PairModel(), data, context)
    assert set(found) == {"receptive_field_force", "leak_force"}, "no decay where nothing is felt"
    assert 0.97 * CUTOFF_A < found["receptive_field_force"] <= CUTOFF_A


def check_local(model: Model, data: Dataset, context: Context) -> None:
    found = measured(model, data, context)
    for metric in METRICS:
        if metric.name in found and metric.role == "check":
            assert score(metric, found[metric.name]) == 1.0, metric.name


@pytest.mark.parametrize("model", [Potential(), Embedded(), PairModel(), GlobalTerm(term=square_of_size)])
def test_local_models_pass(model: Model, data: Dataset, context: Context) -> None:
    """A term that only counts atoms is wrong, but local: `extensivity` catches it."""
    check_local(model, data, context)


def failed(model: Model, data: Dataset, context: Context) -> set[str]:
    """Return the checks that fail; whatever is no check cannot."""
    found = measured(model, data, context)
    return {m.name for m in METRICS if m.role == "check" and m.name in found and score(m, found[m.name]) <= 0.0}


def stiffly_held(atoms: Atoms) -> tuple[float, Float]:
    """Springs of 1 eV/Å² to the centroid, as stiff as what a network learns of a mean over all atoms."""
    energy, forces = held_to_the_centre(atoms)
    return 1e3 * energy, 1e3 * forces


def test_a_mean_over_all_atoms_leaks(data: Dataset, context: Context) -> None:
    assert failed(GlobalTerm(term=stiffly_held), data, context) == {"leak_force", "decay_force"}
    assert failed(GlobalTerm(term=held_to_the_centre), data, context) == {"decay_force"}, "weak, and everywhere alike"


def dispersion(atoms: Atoms) -> tuple[float, Float]:
    """-C6/r⁶ between all atoms, with Becke and Johnson's damping: 20 eV Å⁶, and no cutoff."""
    vector = atoms.positions[:, None] - atoms.positions[None]
    r = np.linalg.norm(vector, axis=2)
    bare = 20.0 / (r**6 + 3.0**6) * (1.0 - np.eye(len(atoms)))
    pull = 6.0 * r[..., None] ** 4 * vector * (bare**2 / 20.0)[..., None]
    return -0.5 * float(bare.sum()), -pull.sum(axis=1)


@pytest.mark.parametrize("term", [charges, dispersion])
def test_what_decays_is_felt_and_passes(term: object, data: Dataset, context: Context) -> None:
    """Every atom with the charge of an electron; and all that London's law has, without a cutoff."""
    model = GlobalTerm(term=term)  # type: ignore[arg-type]
    found = measured(model, data, context)
    assert found["receptive_field_force"] > 40.0
    assert not failed(model, data, context), found
    assert 2.5 < found["decay_force"] < 4.5 if term is charges else found["decay_force"] > 7.0


def test_spring_to_the_centre_leaks_its_share(data: Dataset, context: Context) -> None:
    """A step by s moves the centroid of n atoms by s / n, and changes every force by k s / n; k is 1 meV/Å²."""
    made = replace(MADE, n_strings=1)
    seen = made.observe(GlobalTerm(term=held_to_the_centre), data, context)
    n_atoms = len(seen["distance"]) // MADE.n_moved
    found = {v.metric: v.value for v in made.score(seen, data)}
    assert found["leak_force"] == pytest.approx(1.0 * MADE.shift_A / n_atoms, rel=1e-6)
    assert found["receptive_field_force"] > 40.0


def test_round_off_is_no_reach(data: Dataset, context: Context) -> None:
    """In single precision the far ends of the reach drown; nothing beyond it is made up."""
    found = measured(Potential(precision=np.float32), data, context)
    assert 0.8 * RC_A < found["receptive_field_force"] <= RC_A
    assert found["leak_force"] == 0.0


@dataclass(frozen=True)
class Noisy(Potential):
    """Every answer is off by 1 meV and 1 meV/Å, at random."""

    def answer(self, atoms: Atoms) -> tuple[Float, Float]:
        sites, forces = super().answer(atoms)
        rng = np.random.default_rng(int(1e6 * np.abs(atoms.positions).sum()))
        return sites + 1e-3 * rng.normal(size=sites.shape), forces + 1e-3 * rng.normal(size=forces.shape)


def test_noise_is_measured_and_left_out(data: Dataset, context: Context) -> None:
    found = measured(Noisy(), data, context)
    assert 0.0 < found["receptive_field_force"] <= RC_A
    assert found["leak_energy"] == found["leak_force"] == 0.0


@dataclass(frozen=True)
class NoSum(Potential):
    """Says that its energy is no sum over atoms, or gives too few."""

    shape: int | None = None

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        if self.shape is None:
            raise NotApplicable("the energy is not a sum")
        return np.zeros(self.shape)


def test_site_energies_that_are_none(data: Dataset, context: Context) -> None:
    assert set(measured(NoSum(), data, context)) == {"receptive_field_force", "leak_force"}
    with pytest.raises(ModelFailure, match="site energies of shape"):
        measured(NoSum(shape=3), data, context)


ELEMENTS = (1, 3, 6, 8)


def of_soap(**options: float) -> Described:
    made = Soap(numbers=ELEMENTS, n_max=4, l_max=2, **options)  # type: ignore[arg-type]
    return Described(function=lambda atoms: soap_features(atoms, made))


@pytest.mark.parametrize(("cutoff_A", "transition_A", "reach_A"), [(3.5, 0.5, 3.5), (3.0, 0.0, 4.858)])
def test_soap_is_felt_up_to_its_reach(
    cutoff_A: float, transition_A: float, reach_A: float, data: Dataset, context: Context
) -> None:
    found = measured(of_soap(cutoff_A=cutoff_A, transition_A=transition_A), data, context)
    assert set(found) == {"receptive_field_features", "leak_features"}
    assert 0.97 * reach_A < found["receptive_field_features"] <= reach_A
    assert found["leak_features"] == 0.0


@pytest.mark.parametrize("degrees", [(4.0, 3.0), (4.0, 3.0, 2.0)])
def test_ace_functions_are_felt_up_to_the_cutoff(degrees: tuple[float, ...], data: Dataset, context: Context) -> None:
    basis = Basis(numbers=ELEMENTS, cutoff_A=3.5, degrees=degrees, l_max=2, l_weight=0.5)
    found = measured(Described(function=lambda atoms: ace_features(atoms, basis)), data, context)
    assert 0.97 * 3.5 < found["receptive_field_features"] <= 3.5
    assert found["leak_features"] == 0.0


def test_features_of_the_whole_leak(data: Dataset, context: Context) -> None:
    """The distance of each atom from the centroid; a step by s along u changes it by s u·r / n at most."""
    local = of_soap(cutoff_A=3.5, transition_A=0.5)

    def of_frame(atoms: Atoms) -> Float:
        apart = np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1)
        return np.column_stack([local.of_frame(atoms), apart])

    check_local(local, data, context)
    found = measured(Described(function=of_frame), data, context)
    assert found["receptive_field_features"] > 40.0
    with pytest.raises(AssertionError):
        check_local(Described(function=of_frame), data, context)


@dataclass(frozen=True)
class SitesOnly(Potential):
    """Its energy is known atom by atom, and it predicts no forces."""

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        raise NotApplicable("no forces here")


def test_site_energies_alone_are_enough(data: Dataset, context: Context) -> None:
    found = measured(SitesOnly(), data, context)
    assert set(found) == {"receptive_field_energy", "leak_energy"}
    assert found == {name: measured(Potential(), data, context)[name] for name in found}


@dataclass(frozen=True)
class EnergiesAndFeatures(Potential):
    def site_features(self, frames: Sequence[Atoms]) -> Float:
        raise AssertionError("nobody asks when there are forces")


def test_forces_come_first(data: Dataset, context: Context) -> None:
    assert measured(EnergiesAndFeatures(), data, context) == measured(Potential(), data, context)


@dataclass(frozen=True)
class Refuses(PairModel):
    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        raise NotApplicable("not these elements")


def test_refusals(data: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="not these elements"):
        measured(Refuses(), data, context)
    with pytest.raises(BadInput, match="far_A is 50 Å; it must be less than length_A, 40 Å"):
        Locality(far_A=50.0, length_A=40.0).observe(PairModel(), data, context)
    with pytest.raises(BadInput, match="n_strings is 0; it must be 1 or more"):
        Locality(n_strings=0).observe(PairModel(), data, context)


def test_strings_are_long_and_in_contact(data: Dataset) -> None:
    rng = np.random.default_rng(0)
    atoms = string(pieces(data, 4, rng, lone_elements=()), rng, length_A=50.0)
    assert np.ptp(atoms.positions[:, 0]) >= 50.0
    distances = atoms.get_all_distances() + 99.0 * np.eye(len(atoms))
    assert distances.min() > 0.8
    # Whatever the cutoff, from 3.5 Å on, the string is in one piece.
    reached, front = {0}, [0]
    while front:
        front = [j for i in front for j in np.flatnonzero(distances[i] < 3.5).tolist() if j not in reached]
        reached |= set(front)
    assert len(reached) == len(atoms)


def test_keeps_the_contract(data: Dataset) -> None:
    made = Locality(n_strings=1, length_A=20.0, far_A=10.0, n_moved=4)
    check_benchmark(made, PairModel(scale=1.1), data, perfect=PairModel())
    check_benchmark(made, of_soap(cutoff_A=3.5, transition_A=0.5), data)


def test_numbers_stay_with_their_version(data: Dataset, context: Context) -> None:
    """When this fails, raise a version; see test_golden.py."""
    assert (MADE.about.observe_version, MADE.about.score_version) == (2, 2)
    found = measured(GlobalTerm(term=held_to_the_centre), data, context)
    golden = {"receptive_field_force": 44.7217622, "leak_force": 0.00208256322}
    assert found.pop("decay_force") == pytest.approx(0.0, abs=1e-6)
    assert found == pytest.approx(golden, rel=1e-6)
