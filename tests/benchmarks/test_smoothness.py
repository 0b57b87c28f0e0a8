"""Jumps of known size are found with that size; what is smooth passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from pair_model import PairModel, labelled
from potentials import (
    CUTOFF_A,
    Pair,
    Potential,
    enveloped,
    enveloped_once,
    force_shifted,
    shifted,
    truncated,
    well,
)
from site_model import Described, Sums

from mlipbench.ace.basis import Basis
from mlipbench.ace.features import ace_features, soap_features
from mlipbench.ace.soap import Soap
from mlipbench.benchmarks.paths import N_SIZED, Path, dimers, sized
from mlipbench.benchmarks.sites import units_of
from mlipbench.benchmarks.smoothness import METRICS, Smoothness
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import score
from mlipbench.core.model import Float, Model, ModelSpec, Predictions
from mlipbench.core.view import Lines
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.models.ase import AseModel
from mlipbench.testing.benchmarks import check_benchmark

MADE = Smoothness(n_frames=2, max_pairs=2, n_points=121)
DIMERS = replace(MADE, n_frames=0)
EDGE = {name: 1000.0 * abs(float(x)) for name, x in zip("Efk", well(np.array(CUTOFF_A)), strict=True)}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return labelled(["molecule", "cluster"], n_trajectories=2, n_frames=1)


def measured(
    model: Model, data: Dataset, context: Context, *, part: str = "", made: Smoothness = MADE
) -> dict[str, float]:
    return {v.metric: v.value for v in made.score(made.observe(model, data, context), data) if v.part == part}


@pytest.mark.parametrize(
    ("pair", "quantity", "size"),
    [(truncated, "energy", EDGE["E"]), (truncated, "force", EDGE["f"]), (truncated, "force_constant", EDGE["k"]),
     (shifted, "force", EDGE["f"]), (shifted, "force_constant", EDGE["k"]),
     (force_shifted, "force_constant", EDGE["k"])],
)  # fmt: skip
def test_jumps_of_dimers_have_their_size(
    pair: Pair, quantity: str, size: float, data: Dataset, context: Context
) -> None:
    found = measured(Potential(pair), data, context, made=DIMERS)
    assert found[f"{quantity}_jump"] == pytest.approx(size, rel=1e-3)
    assert found[f"{quantity}_floor"] < 1e-3 * size


@pytest.mark.parametrize("part", ["kind=atom", "kind=molecule"])
def test_jumps_in_molecules_are_those_of_one_pair(part: str, data: Dataset, context: Context) -> None:
    """Pairs cross the cutoff one by one; only the slope along the path depends on the pair's direction."""
    found = measured(Potential(truncated), data, context, part=part)
    assert found["energy_jump"] == pytest.approx(EDGE["E"], rel=0.02)
    assert found["force_jump"] == pytest.approx(EDGE["f"], rel=0.02)


def check_smooth(model: Model, data: Dataset, context: Context, *, made: Smoothness = MADE) -> None:
    found = measured(model, data, context, made=made)
    assert len(found) == 6
    for metric in METRICS:
        if metric.name in found:
            assert score(metric, found[metric.name]) == 1.0, metric.name


def test_smooth_potentials_pass(data: Dataset, context: Context) -> None:
    check_smooth(Potential(enveloped), data, context)
    check_smooth(PairModel(), data, context)


@pytest.mark.parametrize("pair", [truncated, shifted, force_shifted, enveloped_once])
def test_the_check_has_teeth(pair: Pair, data: Dataset, context: Context) -> None:
    with pytest.raises(AssertionError):
        check_smooth(Potential(pair), data, context)


def test_crystals_are_pulled_apart_in_clusters(context: Context) -> None:
    metal = labelled(["atom"], n_trajectories=2, n_frames=1)
    metal = replace(metal, frames=(bulk("Cu"), bulk("Cu")), molecule=None, molecule_charges=None)
    made = replace(MADE, n_frames=1, max_pairs=0)
    found = measured(Potential(truncated), metal, context, part="kind=atom", made=made)
    assert found["energy_jump"] == pytest.approx(EDGE["E"], rel=0.02)


def test_only_what_breaks_is_named(data: Dataset, context: Context) -> None:
    """The force-shifted energy and its first derivative are continuous."""
    found = measured(Potential(force_shifted), data, context, made=DIMERS)
    assert found["energy_jump"] < 1e-6
    assert found["force_jump"] < 1e-3
    assert found["force_constant_jump"] > 10.0


def test_place_is_the_cutoff(data: Dataset, context: Context) -> None:
    seen = DIMERS.observe(Potential(truncated), data, context)
    near = np.abs(seen["break_place"] - CUTOFF_A) < 1e-5
    assert set(seen["break_path"][near]) == {0, 1}
    [energy] = [view for view in DIMERS.views(seen, data) if view.title == "Energy across its worst place"]
    assert isinstance(energy, Lines)
    middle = len(energy.x) // 2
    # Up from the well's tail to zero, less the tangent from the left.
    assert energy.y[0, middle + 1] - energy.y[0, middle - 1] == pytest.approx(EDGE["E"], rel=0.05)


def test_single_precision_is_noise_and_no_jump(data: Dataset, context: Context) -> None:
    found = measured(Potential(enveloped, precision=np.float32), data, context)
    for quantity in ("energy", "force", "force_constant"):
        assert found[f"{quantity}_jump"] < 5.0 * found[f"{quantity}_floor"] + 1e-9
    # The last digit of distances of 2 Å is 2e-7 Å, and curvatures are some 10 eV/Å². Which place stands out most among
    # noise is chance, and differs from processor to processor; some have forces too small for noise.
    assert found["force_floor"] < 0.1
    assert found["force_constant_floor"] > 1e-4
    rough = measured(Potential(truncated, precision=np.float32), data, context, made=DIMERS)
    assert rough["energy_jump"] == pytest.approx(EDGE["E"], rel=0.01)


def of_ase(calculator: Calculator) -> AseModel:
    return AseModel(spec=ModelSpec(name="ase", kind="ase"), bare=calculator)


def test_lennard_jones_of_ase(data: Dataset, context: Context) -> None:
    """Shifted: the force jumps. With smooth=True: the second derivative jumps where the switch begins and ends."""
    rc, ro = 6.0, 4.0

    def lj(r: float) -> tuple[float, float]:
        s = (2.0 / r) ** 6
        return 0.4 * (s**2 - s), 0.4 * (6 * s - 12 * s**2) / r

    options = {"sigma": 2.0, "epsilon": 0.1, "rc": rc, "ro": ro}
    plain = measured(of_ase(LennardJones(**options)), data, context, made=DIMERS)
    assert plain["energy_jump"] < 1e-6
    assert plain["force_jump"] == pytest.approx(1000.0 * abs(lj(rc)[1]), rel=0.01)
    smooth = measured(of_ase(LennardJones(**options, smooth=True)), data, context, made=DIMERS)
    # f = (rc² - r²)² (rc² + 2 r² - 3 ro²) / (rc² - ro²)³ has f'' = -24 ro² / (rc² - ro²)² at ro, 24 rc² / … at rc.
    jumps = [abs(lj(ro)[0]) * 24 * ro**2, abs(lj(rc)[0]) * 24 * rc**2]
    assert smooth["energy_jump"] < 1e-6
    assert smooth["force_jump"] < 1e-3
    assert smooth["force_constant_jump"] == pytest.approx(1000.0 * max(jumps) / (rc**2 - ro**2) ** 2, rel=0.01)


def test_emt_jumps_where_its_list_ends(context: Context) -> None:
    """EMT fades out with a Fermi function, and is cut 0.5 Å after its middle."""
    metal = labelled(["atom"], n_trajectories=2, n_frames=1)
    frames = (bulk("Cu", cubic=True), bulk("Cu", cubic=True))
    metal = replace(metal, frames=frames, molecule=None, molecule_charges=None)
    calculator = EMT()
    found = measured(of_ase(calculator), metal, context, made=DIMERS)
    energies, forces = [], []
    for r in (calculator.rc_list - 1e-9, calculator.rc_list + 1e-9):
        pair = Atoms("Cu2", [[0, 0, 0], [r, 0, 0]], calculator=calculator)
        energies.append(pair.get_potential_energy())
        forces.append(pair.get_forces()[1, 0])
    assert found["energy_jump"] == pytest.approx(1000.0 * abs(energies[1] - energies[0]), rel=0.01)
    assert found["force_jump"] == pytest.approx(1000.0 * abs(forces[1] - forces[0]), rel=0.01)
    assert found["energy_jump"] > 1e-3


@dataclass(frozen=True)
class Refuses(Potential):
    """Does not cover frames of so few atoms."""

    fewer_than: int = 3

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        if any(len(atoms) < self.fewer_than for atoms in frames):
            raise NotApplicable("too small for this model")
        return super().predict(frames)

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        raise NotApplicable("no atom has an energy of its own")


class OnlyEnergies(PairModel):
    """Has nothing to say of single atoms, and not much of all."""

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        raise NotApplicable("not these elements")


def test_paths_that_a_model_does_not_cover_are_left_out(data: Dataset, context: Context) -> None:
    seen = MADE.observe(Refuses(), data, context)
    assert 0 not in seen["path_kind"]
    assert seen["n_left_out"].tolist()[0] >= 2
    with pytest.raises(NotApplicable, match="of its own"):
        MADE.observe(Refuses(fewer_than=100), data, context)
    with pytest.raises(NotApplicable, match="not these elements"):
        MADE.observe(OnlyEnergies(), data, context)


def test_refusals(data: Dataset, context: Context) -> None:
    for wrong, text in (
        ({"n_points": 10}, "n_points is 10; it must be 30 or more"),
        ({"n_frames": 0, "max_pairs": 0}, "there is no path"),
        ({"farthest_A": 1.0}, "farthest_A is 1 Å; it must be 5 Å or more"),
    ):
        with pytest.raises(BadInput, match=text):
            Smoothness(**wrong).observe(PairModel(), data, context)  # type: ignore[arg-type]
    too_steep = Potential(lambda r: (1e4 / r, -1e4 / r**2))
    with pytest.raises(NotApplicable, match="forces stay below 50 eV/Å"):
        replace(DIMERS, n_points=31, farthest_A=5.0).observe(too_steep, data, context)


ELEMENTS = (1, 3, 6, 8)


def soap(**options: float) -> Described:
    made = Soap(numbers=ELEMENTS, cutoff_A=4.5, n_max=3, l_max=2, **options)  # type: ignore[arg-type]
    return Described(function=lambda atoms: soap_features(atoms, made))


def ace(envelope: int) -> Described:
    """The functions of an ACE; its own check refuses envelopes that are not smooth."""
    basis = Basis(numbers=ELEMENTS, cutoff_A=4.5, degrees=(3.0, 3.0), l_max=2, l_weight=0.5)
    object.__setattr__(basis, "envelope", envelope)
    object.__setattr__(basis, "pair_envelope", envelope)
    return Described(function=lambda atoms: ace_features(atoms, basis))


def faded(r: Float, power: int) -> Float:
    return np.where(r < CUTOFF_A, (1.0 - np.minimum(r / CUTOFF_A, 1.0) ** 2) ** power, 0.0)


def one_feature(power: int) -> Described:
    """The sum of (1 - (r/rc)²)^p over neighbours."""

    def of(atoms: Atoms) -> Float:
        distance = atoms.get_all_distances() + 2.0 * CUTOFF_A * np.eye(len(atoms))
        return faded(distance, power).sum(axis=1)[:, None]

    return Described(function=of)


def paths_of(made: Smoothness, data: Dataset) -> tuple[Path, ...]:
    return dimers(np.unique(data.numbers).tolist(), last_A=made.farthest_A, max_pairs=made.max_pairs)


@pytest.mark.parametrize(
    ("power", "name", "size"),
    [(0, "feature", 1.0), (1, "feature_slope", 2.0 / CUTOFF_A), (2, "feature_curvature", 8.0 / CUTOFF_A**2)],
)
def test_jumps_of_a_feature_have_their_size(
    power: int, name: str, size: float, data: Dataset, context: Context
) -> None:
    """In units of the root mean square over both atoms of all dimers at a few distances."""
    paths = paths_of(DIMERS, data)
    distances = np.array([np.linspace(path.first_A, path.last_A, N_SIZED) for path in paths])
    own_size = np.sqrt((faded(distances, power) ** 2).mean())
    found = measured(one_feature(power), data, context, made=DIMERS)
    assert found[f"{name}_jump"] == pytest.approx(size / own_size, rel=1e-3)
    assert found[f"{name}_floor"] < 1e-3 * size / own_size


@pytest.mark.parametrize("tail", [1e-3, 0.1])
def test_soap_without_transition_jumps_where_a_neighbour_enters(tail: float, data: Dataset, context: Context) -> None:
    """By what that neighbour brings with it, and by more the higher its Gaussian is there."""
    model, made = soap(tail=tail), DIMERS
    reach_A = Soap(numbers=ELEMENTS, cutoff_A=4.5, tail=tail).reach_A
    paths, said = sized(model, paths_of(made, data), context)
    units, jumps = units_of(said), []
    for path in paths:
        inside, outside = (model.of_frame(path.at(reach_A + side)) for side in (-1e-9, 1e-9))
        jumps.append(np.linalg.norm((inside - outside) * units, axis=1).max())
    found = measured(model, data, context, made=made)
    assert found["feature_jump"] == pytest.approx(np.sqrt(np.mean(np.square(jumps))), rel=1e-3)
    assert found["feature_jump"] > 1e3 * found["feature_floor"]
    assert found["feature_jump"] > {1e-3: 1e-7, 0.1: 1e-4}[tail]


def test_smooth_features_pass(data: Dataset, context: Context) -> None:
    for model in (soap(transition_A=0.5), ace(3), one_feature(3)):
        check_smooth(model, data, context)
    check_smooth(Sums(), data, context, made=DIMERS)


@pytest.mark.parametrize("model", [soap(), ace(1), ace(2), one_feature(0), one_feature(1), one_feature(2)])
def test_the_check_of_features_has_teeth(model: Model, data: Dataset, context: Context) -> None:
    with pytest.raises(AssertionError):
        check_smooth(model, data, context)


def test_features_in_molecules_jump_too(data: Dataset, context: Context) -> None:
    """An atom that loses a neighbour loses 1, in units of the features' size."""
    model = one_feature(0)
    seen = MADE.observe(model, data, context)
    jumps = {v.part: v.value for v in MADE.score(seen, data) if v.metric == "feature_jump"}
    assert set(jumps) == {"", "kind=dimer", "kind=atom", "kind=molecule"}
    assert list(jumps.values()) == pytest.approx([jumps[""]] * 4, rel=1e-3)


def test_features_in_single_precision_are_noise_and_no_jump(data: Dataset, context: Context) -> None:
    smooth = soap(transition_A=0.5)
    model = Described(function=lambda atoms: smooth.of_frame(atoms).astype(np.float32).astype(float))
    found = measured(model, data, context)
    for quantity in ("feature", "feature_slope", "feature_curvature"):
        assert found[f"{quantity}_jump"] < 5.0 * found[f"{quantity}_floor"]
    assert 1e-9 < found["feature_floor"] < 1e-6


class SitesOnly(Potential):
    """Its energy is known atom by atom, and it predicts no forces."""

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        raise NotApplicable("no forces here")


def test_site_energies_are_one_feature(data: Dataset, context: Context) -> None:
    check_smooth(SitesOnly(), data, context)
    with pytest.raises(AssertionError):
        check_smooth(SitesOnly(truncated), data, context)


class EnergiesAndFeatures(Potential):
    def site_features(self, frames: Sequence[Atoms]) -> Float:
        raise AssertionError("nobody asks when there are energies")


def test_energies_come_first(data: Dataset, context: Context) -> None:
    assert set(measured(EnergiesAndFeatures(), data, context)) == {metric.name for metric in METRICS[:6]}


def test_descriptor_that_sees_nothing_is_left_out(data: Dataset, context: Context) -> None:
    blind = Described(function=lambda atoms: atoms.numbers[:, None].astype(float))
    with pytest.raises(NotApplicable, match="says of every atom here what it says of the atom alone"):
        MADE.observe(blind, data, context)


def test_keeps_the_contract(data: Dataset) -> None:
    made = Smoothness(n_frames=1, max_pairs=1, n_points=61, n_suspects=1)
    check_benchmark(made, soap(transition_A=0.5), data)
    check_benchmark(made, PairModel(scale=1.1), data, perfect=PairModel())


def test_numbers_stay_with_their_version(data: Dataset, context: Context) -> None:
    """When this fails, raise a version; see test_golden.py."""
    assert (MADE.about.observe_version, MADE.about.score_version) == (2, 2)
    found = measured(Potential(truncated), data, context)
    golden = {"energy_jump": EDGE["E"], "force_jump": EDGE["f"], "force_constant_jump": 26.8155957}
    assert {name: found[name] for name in golden} == pytest.approx(golden, rel=1e-5)
    features = measured(soap(tail=0.1), data, context, made=DIMERS)
    golden = {
        "feature_jump": 0.000257131981,
        "feature_slope_jump": 0.00167691942,
        "feature_curvature_jump": 0.0101210814,
    }
    assert {name: features[name] for name in golden} == pytest.approx(golden, rel=1e-5)
