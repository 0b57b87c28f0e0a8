"""Crystals whose equation of state is known come back, wherever their minimum is; others say that they have none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from known_energy import KnownEnergy

from mlipbench.benchmarks.equation_of_state import METRICS, EquationOfState
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue, score
from mlipbench.core.model import Model
from mlipbench.core.policy import metric_score
from mlipbench.core.view import Bars, Parity
from mlipbench.data import manifest
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.models import load
from mlipbench.models.ase import spec_of
from mlipbench.physics.eos import Curve, delta, energy
from mlipbench.physics.survival import clopper_pearson
from mlipbench.testing.benchmarks import check_benchmark
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM, MEV_PER_EV

FEW = ("Si", "Cu", "Ne", "W")


@pytest.fixture(scope="module")
def crystals() -> Dataset:
    return manifest.load(manifest.source("delta_codes"))


@pytest.fixture
def few(crystals: Dataset) -> Dataset:
    return taken(crystals, FEW)


def taken(crystals: Dataset, elements: tuple[str, ...]) -> Dataset:
    chosen = [crystals.uid.index(element) for element in elements]
    observables = {name: array[chosen] for name, array in crystals.observables.items()}
    spec = replace(crystals.spec, elements=elements)
    return replace(crystals.take(chosen), spec=spec, observables=observables)


def curve_of(data: Dataset, element: str) -> Curve:
    k = data.uid.index(element)
    volume, modulus, derivative = (
        float(data.observables[name][k]) for name in ("volume_A3", "bulk_modulus_GPa", "bulk_modulus_derivative")
    )
    return Curve(
        volume_A3=volume, modulus_eV_per_A3=modulus / GPA_PER_EV_PER_CUBIC_ANGSTROM, derivative=derivative
    )  # fmt: skip


@dataclass(frozen=True)
class Crystals:
    """The reference's own equations of state, changed."""

    data: Dataset
    changed: Callable[[Curve], Curve] = lambda curve: curve
    instead: dict[str, Callable[[float], float]] = field(default_factory=dict)

    def __call__(self, atoms: Atoms) -> float:
        element = str(atoms.symbols[0])
        volume = atoms.get_volume() / len(atoms)
        if element in self.instead:
            return len(atoms) * self.instead[element](volume)
        lone = -100.0 * atoms.numbers[0]
        return float(len(atoms) * (lone + energy(self.changed(curve_of(self.data, element)), np.array(volume))))


def measured(
    model: Model, data: Dataset, context: Context, made: EquationOfState | None = None
) -> dict[str, MetricValue]:
    made = EquationOfState() if made is None else made
    return {v.metric: v for v in made.score(made.observe(model, data, context), data) if not v.part}


def check_exact(energies: Callable[[Atoms], float], data: Dataset, context: Context) -> None:
    found = measured(KnownEnergy(energy=energies), data, context)
    assert set(found) == {metric.name for metric in METRICS}
    for metric in METRICS:
        assert score(metric, found[metric.name].value) > 0.999
        assert found[metric.name].value < 0.02


def test_the_reference_is_exact(crystals: Dataset, context: Context) -> None:
    check_exact(Crystals(crystals), crystals, context)


WRONG: dict[str, Callable[[Dataset], Callable[[Atoms], float]]] = {
    "per cell": lambda data: lambda atoms: len(atoms) * Crystals(data)(atoms),
    "softer": lambda data: Crystals(data, lambda c: replace(c, modulus_eV_per_A3=0.9 * c.modulus_eV_per_A3)),
    "larger": lambda data: Crystals(data, lambda c: replace(c, volume_A3=1.02 * c.volume_A3)),
    "steeper": lambda data: Crystals(data, lambda c: replace(c, derivative=c.derivative + 2.0)),
    "upside down": lambda data: lambda atoms: -Crystals(data)(atoms),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_check_has_teeth(name: str, few: Dataset, context: Context) -> None:
    with pytest.raises((AssertionError, ModelFailure)):
        check_exact(WRONG[name](few), few, context)


@pytest.mark.parametrize(
    ("shift", "n_scans"), [(0.02, 1), (-0.03, 1), (0.05, 2), (-0.08, 2), (0.12, 2), (-0.2, 3), (0.35, 3)]
)
def test_a_minimum_elsewhere_is_followed(shift: float, n_scans: int, few: Dataset, context: Context) -> None:
    """Errors are exact however far the model's volume is; beyond 4 % another scan is centred on it."""
    model = KnownEnergy(energy=Crystals(few, lambda c: replace(c, volume_A3=(1.0 + shift) * c.volume_A3)))
    made = EquationOfState()
    seen = made.observe(model, few, context)
    assert len(model.calls) <= n_scans
    middle = seen["volume"].mean(axis=1) / few.observables["volume_A3"]
    if n_scans > 1:
        np.testing.assert_allclose(middle, 1.0 + shift, atol=0.05)
    found = {v.metric: v for v in made.score(seen, few) if not v.part}
    assert found["volume_rmse"].value == pytest.approx(100.0 * abs(shift), rel=1e-4)
    assert found["volume_bias"].value == pytest.approx(100.0 * abs(shift), rel=1e-4)
    assert found["bulk_modulus_mae"].value < 0.01
    assert found["derivative_mae"].value < 0.01
    references = [curve_of(few, element) for element in FEW]
    distances = [delta(c, replace(c, volume_A3=(1.0 + shift) * c.volume_A3)) for c in references]
    assert found["delta"].value == pytest.approx(MEV_PER_EV * np.mean(distances), rel=1e-4)
    assert found["delta_median"].value == pytest.approx(MEV_PER_EV * np.median(distances), rel=1e-4)


def test_errors_are_those_by_hand(few: Dataset, context: Context) -> None:
    """Two crystals 10 % too soft, two 30 % too hard; derivatives off by 0.5."""
    soft = {"Si": 0.9, "Cu": 0.9, "Ne": 1.3, "W": 1.3}
    by_volume = {few.observables["volume_A3"][few.uid.index(element)]: factor for element, factor in soft.items()}

    def changed(curve: Curve) -> Curve:
        factor = by_volume[curve.volume_A3]
        return replace(
            curve, modulus_eV_per_A3=factor * curve.modulus_eV_per_A3, derivative=curve.derivative - 0.5
        )  # fmt: skip

    made, model = EquationOfState(), KnownEnergy(energy=Crystals(few, changed))
    seen = made.observe(model, few, context)
    found = {v.metric: v for v in made.score(seen, few) if not v.part}
    assert found["bulk_modulus_mae"].value == pytest.approx(20.0, rel=1e-3)
    assert found["bulk_modulus_bias"].value == pytest.approx(10.0, rel=1e-3)
    assert found["derivative_mae"].value == pytest.approx(0.5, rel=1e-2)
    assert all(found[name].n == 4 for name in found)
    views = {view.title: view for view in made.views(seen, few)}
    assert isinstance(views["Mean signed errors"], Bars)
    np.testing.assert_allclose(views["Mean signed errors"].values, [0.0, 10.0], atol=0.01)
    assert isinstance(views["Bulk moduli"], Parity)
    ratio = dict(zip(FEW, views["Bulk moduli"].predicted / views["Bulk moduli"].reference, strict=True))
    assert ratio == pytest.approx(soft, rel=1e-3)
    assert isinstance(views["Δ by crystal"], Bars)
    assert views["Δ by crystal"].labels == FEW


def test_kinds_of_crystals_are_told_apart(few: Dataset, context: Context) -> None:
    loose = few.observables["volume_A3"][few.uid.index("Ne")]
    by_kind = Crystals(few, lambda c: replace(c, volume_A3=(1.02 if c.volume_A3 == loose else 0.99) * c.volume_A3))
    made, model = EquationOfState(), KnownEnergy(energy=by_kind)
    found = {(v.metric, v.part): v for v in made.score(made.observe(model, few, context), few)}
    assert found["volume_rmse", "config_type=noble_gas"].value == pytest.approx(2.0, rel=1e-3)
    assert found["volume_rmse", "config_type=solid"].value == pytest.approx(1.0, rel=1e-3)
    whole = found["delta", ""]
    parts = [found["delta", f"config_type={kind}"] for kind in ("noble_gas", "solid")]
    assert whole.value == pytest.approx(sum(part.n * part.value for part in parts) / whole.n)


NEAREST_A, DEPTH_EV, RANGE = 2.55, 0.35, 1.4


def morse_neighbours(atoms: Atoms) -> float:
    """Morse's potential between nearest neighbours only."""
    edge = (4.0 * atoms.get_volume() / len(atoms)) ** (1 / 3)
    r = neighbor_list("d", atoms, 0.85 * edge)
    assert len(r) == 12 * len(atoms)
    x = np.exp(-RANGE * (r - NEAREST_A))
    return float(0.5 * DEPTH_EV * (x**2 - 2.0 * x).sum())


def test_a_crystal_of_pairs_is_known_on_paper(crystals: Dataset, context: Context) -> None:
    """Face-centred cubic with twelve bonds an atom: V0 = r0³/√2, B0 = 2 φ″ r0² / (3 V0), B1 = 1 + a r0."""
    copper = taken(crystals, ("Cu",))
    made = EquationOfState()
    seen = made.observe(KnownEnergy(energy=morse_neighbours), copper, context)
    _, volumes, moduli, *_ = (None, *made.views(seen, copper))
    assert isinstance(volumes, Parity)
    assert isinstance(moduli, Parity)
    volume = NEAREST_A**3 / np.sqrt(2.0)
    modulus = 2.0 * (2.0 * DEPTH_EV * RANGE**2) * NEAREST_A**2 / (3.0 * volume) * GPA_PER_EV_PER_CUBIC_ANGSTROM
    assert volumes.predicted[0] == pytest.approx(volume, rel=1e-3)
    assert moduli.predicted[0] == pytest.approx(modulus, rel=0.01)
    found = {v.metric: v for v in made.score(seen, copper) if not v.part}
    assert found["derivative_mae"].value == pytest.approx(abs(1.0 + RANGE * NEAREST_A - 4.86), abs=0.1)
    assert found["delta"].n == 1
    assert found["delta"].low is None


def test_crystals_without_a_minimum_are_counted(few: Dataset, context: Context) -> None:
    rough = np.random.default_rng(0)
    cases: dict[str, tuple[Callable[[float], float], str]] = {
        "Si": (lambda volume: 0.1 * volume, "no minimum: the energy falls as the crystal shrinks"),
        "Cu": (lambda volume: -0.1 * volume, "no minimum: the energy falls as the crystal grows"),
        "Ne": (lambda _: float(rough.normal()), "energies follow no equation of state"),
    }
    for element, (instead, reason) in cases.items():
        made, model = EquationOfState(), KnownEnergy(energy=Crystals(few, instead={element: instead}))
        seen = made.observe(model, few, context)
        found = {v.metric: v for v in made.score(seen, few) if not v.part}
        assert (found["no_minimum"].value, found["no_minimum"].n) == (0.25, 4)
        assert (found["no_minimum"].low, found["no_minimum"].high) == pytest.approx(clopper_pearson(1, 4))
        assert found["delta"].n == 3
        assert found["delta"].value < 0.01
        bars = made.views(seen, few)[-1]
        assert isinstance(bars, Bars)
        assert bars.labels == ("used", f"left out ({element}): {reason}")
    every = {element: cases["Si"][0] for element in FEW}
    with pytest.raises(ModelFailure, match="none of 4 crystals has an equation of state; the first: no minimum"):
        EquationOfState().observe(KnownEnergy(energy=Crystals(few, instead=every)), few, context)


def test_a_failing_crystal_is_counted_and_others_go_on(few: Dataset, context: Context) -> None:
    def fails(_: float) -> float:
        raise ModelFailure("SCF not converged")

    made, model = EquationOfState(), KnownEnergy(energy=Crystals(few, instead={"W": fails}))
    seen = made.observe(model, few, context)
    found = {v.metric: v for v in made.score(seen, few) if not v.part}
    assert (found["no_minimum"].value, found["delta"].n) == (0.25, 3)
    assert isinstance(bars := made.views(seen, few)[-1], Bars)
    assert bars.labels[1] == "left out (W): SCF not converged"


def test_collapsing_is_no_better_than_being_wrong(crystals: Dataset, context: Context) -> None:
    """Half of the crystals are 15 % too large and too soft; or they have no minimum, or are refused."""
    half = crystals.spec.elements[::2]

    def collapses(volume: float) -> float:
        return volume

    def refuses(_: float) -> float:
        raise NotApplicable("rather not")

    def wrong(curve: Curve) -> Curve:
        is_wrong = any(curve == curve_of(crystals, element) for element in half)
        larger = replace(curve, volume_A3=1.15 * curve.volume_A3, modulus_eV_per_A3=0.5 * curve.modulus_eV_per_A3)
        return larger if is_wrong else curve

    elements = crystals.spec.elements
    reached = []
    for energies in (
        Crystals(crystals, wrong),
        *(Crystals(crystals, instead=dict.fromkeys(half, how)) for how in (collapses, refuses)),
    ):
        found = measured(KnownEnergy(energy=energies, elements=elements), crystals, context)
        reached.append(metric_score(METRICS[0], found["delta"]))
        assert found["delta"].n_all == 71 and found["delta"].n + len(found["delta"].failed) == 71
    assert set(found["delta"].failed) == set(half)
    assert reached[0] > reached[1] == reached[2] > 0.0


def test_crystals_of_other_elements_are_no_failures(crystals: Dataset, context: Context) -> None:
    made, model = EquationOfState(), KnownEnergy(energy=Crystals(crystals), elements=("Si", "Cu", "H"))
    seen = made.observe(model, crystals, context)
    found = {v.metric: v for v in made.score(seen, crystals) if not v.part}
    assert (found["no_minimum"].value, found["no_minimum"].n, found["delta"].n) == (0.0, 3, 3)
    assert isinstance(bars := made.views(seen, crystals)[-1], Bars)
    assert bars.labels == ("used", "left out (He, Li, Be, …): not covered")
    assert bars.values.tolist() == [3.0, 68.0]
    with pytest.raises(NotApplicable, match="does not cover H"):
        made.observe(KnownEnergy(energy=Crystals(crystals), elements=("Og",)), crystals, context)


def test_cells_are_scaled_as_a_whole_and_asked_together(few: Dataset, context: Context) -> None:
    model = KnownEnergy(energy=Crystals(few))
    EquationOfState(n_volumes=9, strain=0.05).observe(model, few, context)
    assert model.calls == [36]
    for k, frame in enumerate(few.frames):
        own = model.asked[9 * k : 9 * k + 9]
        volumes = [atoms.get_volume() / len(atoms) for atoms in own]
        np.testing.assert_allclose(volumes, few.observables["volume_A3"][k] * np.linspace(0.95, 1.05, 9))
        for atoms in own:
            np.testing.assert_allclose(atoms.cell.cellpar()[3:], frame.cell.cellpar()[3:])
            np.testing.assert_allclose(atoms.get_scaled_positions(), frame.get_scaled_positions(), atol=1e-12)
            assert not atoms.get_initial_magnetic_moments().any()


def test_only_some_elements(crystals: Dataset, context: Context) -> None:
    model = KnownEnergy(energy=Crystals(crystals))
    found = measured(model, crystals, context, EquationOfState(elements=("Fe", "Mn")))
    assert found["delta"].n == 2
    assert {str(atoms.symbols[0]) for atoms in model.asked} == {"Fe", "Mn"}


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"n_volumes": 4}, "n_volumes is 4; it must be 5 or more"),
        ({"strain": 0.0}, "strain is 0; it must be above 0 and below 0.5"),
        ({"strain": 0.6}, "strain is 0.6; it must be above 0"),
        ({"n_scans": 0}, "n_scans is 0; it must be 1 or more"),
        ({"elements": ("Sj",)}, "unknown element 'Sj'. Known: Cu, Ne, Si, W"),
    ],
)
def test_parameters_must_make_sense(
    parameters: dict[str, object], sentence: str, few: Dataset, context: Context
) -> None:
    with pytest.raises(BadInput, match=sentence):
        EquationOfState(**parameters).observe(KnownEnergy(energy=Crystals(few)), few, context)  # type: ignore[arg-type]


def test_other_data_are_skipped(data: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="has no 'volume_A3', one value for each of"):
        EquationOfState().observe(KnownEnergy(energy=lambda _: 0.0), data, context)


def test_a_calculator_of_ase(crystals: Dataset, context: Context) -> None:
    """Effective medium theory: the metals it was made for; volumes and moduli as ASE's own non-linear fit has them."""
    from ase.eos import EquationOfState as Theirs

    model = load(spec_of("ase.calculators.emt:EMT"), device="cpu")
    metals = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")
    made = EquationOfState(elements=metals)
    seen = made.observe(model, crystals, context)
    _, moduli = made.views(seen, crystals)[:2]
    assert isinstance(moduli, Parity)
    for volume, energies, modulus in zip(seen["volume"], seen["energy"], moduli.predicted, strict=True):
        theirs = Theirs(volume, energies, eos="birchmurnaghan").fit(warn=False)
        assert modulus == pytest.approx(theirs[2] * GPA_PER_EV_PER_CUBIC_ANGSTROM, rel=1e-3)
    found = {v.metric: v for v in made.score(seen, crystals) if not v.part}
    assert found["delta"].n == 7
    assert found["volume_bias"].value == pytest.approx(4.7, abs=0.5)  # its metals are all too small
    everything = EquationOfState(elements=("Cu", "Si")).observe(model, crystals, context)
    assert everything["is_covered"].tolist() == [False]


def test_keeps_the_contract(few: Dataset) -> None:
    soft = KnownEnergy(energy=Crystals(few, lambda c: replace(c, modulus_eV_per_A3=0.8 * c.modulus_eV_per_A3)))
    check_benchmark(EquationOfState(), soft, few, perfect=KnownEnergy(energy=Crystals(few)))
    check_benchmark(EquationOfState(), KnownEnergy(energy=Crystals(few), elements=("Si", "W")), few)


def test_numbers_stay_with_their_version(few: Dataset, context: Context) -> None:
    """When this fails, raise a version; see test_golden.py."""
    about = EquationOfState.about
    assert (about.observe_version, about.score_version) == (2, 2)

    def bent(curve: Curve) -> Curve:
        return Curve(
            volume_A3=1.003 * curve.volume_A3 + 0.2, modulus_eV_per_A3=0.9 * curve.modulus_eV_per_A3 + 0.01,
            derivative=0.5 * curve.derivative + 2.0,
        )  # fmt: skip

    found = {
        name: value.value for name, value in measured(KnownEnergy(energy=Crystals(few, bent)), few, context).items()
    }
    golden = {
        "delta": 6.78121681,
        "delta_median": 5.78018472,
        "volume_rmse": 1.51342376,
        "volume_bias": 1.47882767,
        "bulk_modulus_mae": 32.6196452,
        "bulk_modulus_bias": 19.3567643,
        "derivative_mae": 1.48625,
        "no_minimum": 0,
    }
    assert found == pytest.approx(golden, rel=1e-5)
