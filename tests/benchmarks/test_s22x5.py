"""What is known of dimers comes back exactly, and a model that lacks an element answers for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase import Atoms
from known_energy import KnownEnergy

from mlipbench.benchmarks.frames import FRAMES_PER_CALL
from mlipbench.benchmarks.s22x5 import METRICS, S22x5
from mlipbench.benchmarks.systems import as_numbers, as_texts, ask_each, left_out_view
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue, score
from mlipbench.core.model import Model
from mlipbench.core.policy import metric_score
from mlipbench.core.view import Bars, Lines
from mlipbench.data import manifest
from mlipbench.errors import BadInput, MissingPackage, ModelFailure, NotApplicable
from mlipbench.report.compare import difference
from mlipbench.testing.benchmarks import check_benchmark

LONE_EV = {1: -13.6, 6: -1030.0, 7: -1480.0, 8: -2040.0}


@pytest.fixture(scope="module")
def dimers() -> Dataset:
    return manifest.load(manifest.source("s22x5"))


@pytest.fixture
def few(dimers: Dataset) -> Dataset:
    """Four small dimers of different kinds."""
    wanted = ("Water_dimer", "Ammonia_dimer", "Methane_dimer", "Ethene-ethyne_complex")
    chosen = [k for k, name in enumerate(dimers.trajectory) if name in wanted]
    observables = {name: array[chosen] for name, array in dimers.observables.items()}
    return replace(dimers.take(chosen), observables=observables)


@dataclass(frozen=True)
class Interacting:
    """Lone atoms, and interaction energies of whole dimers changed by a function of reference and relative distance."""

    data: Dataset
    changed: Callable[[float, float], float] = lambda reference, _: reference

    def __call__(self, atoms: Atoms) -> float:
        lone = sum(LONE_EV[number] for number in atoms.numbers.tolist())
        for k, frame in enumerate(self.data.frames):
            if len(frame) == len(atoms) and np.array_equal(frame.positions, atoms.positions):
                reference, place = (
                    float(self.data.observables[name][k]) for name in ("interaction_energy_eV", "relative_distance")
                )
                return lone + self.changed(reference, place)
        return lone


def measured(model: Model, data: Dataset, context: Context) -> dict[tuple[str, str], MetricValue]:
    made = S22x5()
    return {(v.metric, v.part): v for v in made.score(made.observe(model, data, context), data)}


def check_exact(energy: Callable[[Atoms], float], data: Dataset, context: Context) -> None:
    found = measured(KnownEnergy(energy=energy), data, context)
    assert {metric for metric, _ in found} == {metric.name for metric in METRICS}
    definition = {metric.name: metric for metric in METRICS}
    for (name, _), value in found.items():
        assert score(definition[name], value.value) > 0.999
        assert value.value < 1e-6


def test_the_reference_is_exact(dimers: Dataset, context: Context) -> None:
    check_exact(Interacting(dimers), dimers, context)


WRONG: dict[str, Callable[[Dataset], Callable[[Atoms], float]]] = {
    "a constant per frame": lambda data: lambda atoms: Interacting(data)(atoms) + 0.5,
    "the other sign": lambda data: Interacting(data, lambda reference, _: -reference),
    "no interaction": lambda data: Interacting(data, lambda _, __: 0.0),
    "the same at every distance": lambda data: Interacting(data, lambda reference, place: reference / place),
    "not additive": lambda data: lambda atoms: Interacting(data)(atoms) - 1e-3 * len(atoms) ** 2,
}


@pytest.mark.parametrize("name", WRONG)
def test_the_check_has_teeth(name: str, few: Dataset, context: Context) -> None:
    with pytest.raises(AssertionError):
        check_exact(WRONG[name](few), few, context)


def test_errors_are_those_by_hand(dimers: Dataset, context: Context) -> None:
    """A tenth too strong and 3 meV too weak."""
    wrong = Interacting(dimers, lambda reference, _: 1.1 * reference + 0.003)
    found = measured(KnownEnergy(energy=wrong), dimers, context)
    reference = 1e3 * dimers.observables["interaction_energy_eV"]
    error = 0.1 * reference + 3.0
    groups = {("relative_distance", f"{d:.1f}"): dimers.observables["relative_distance"] == d
              for d in (0.9, 1.0, 1.2, 1.5, 2.0)}  # fmt: skip
    groups |= {("config_type", kind): np.array(dimers.config_type) == kind for kind in set(dimers.config_type)}
    parts = {"": np.ones(110, dtype=bool)} | {f"{label}={name}": own for (label, name), own in groups.items()}
    for part, own in parts.items():
        expected = (np.sqrt(np.mean(error[own] ** 2)), np.mean(np.abs(error[own])), abs(np.mean(error[own])))
        names = ("interaction_rmse", "interaction_mae", "interaction_bias")
        assert [found[name, part].value for name in names] == pytest.approx(expected, rel=1e-6)
    assert {part for _, part in found} == set(parts)
    assert found["interaction_rmse", ""].n == 22
    assert found["interaction_bias", "config_type=dispersion"].n == 8


def test_bias_is_a_size_and_its_sign_is_shown(few: Dataset, context: Context) -> None:
    made = S22x5()
    for sign in (1.0, -1.0):
        shifted = KnownEnergy(energy=Interacting(few, lambda reference, _, s=sign: reference + 0.02 * s))  # type: ignore[misc]
        seen = made.observe(shifted, few, context)
        value = {v.metric: v for v in made.score(seen, few) if not v.part}["interaction_bias"]
        assert value.value == pytest.approx(20.0)
        assert value.low is not None
        assert 0.0 <= value.low <= value.value
        bars = {view.title: view for view in made.views(seen, few)}["Mean signed error by relative distance"]
        assert isinstance(bars, Bars)
        np.testing.assert_allclose(bars.values, 20.0 * sign)


def test_all_is_asked_in_few_calls_and_monomers_are_frozen(dimers: Dataset, context: Context) -> None:
    model = KnownEnergy(energy=lambda _: 0.0)
    S22x5().observe(model, dimers, context)
    assert len(model.asked) == 330
    assert len(model.calls) == -(-330 // FRAMES_PER_CALL)
    for dimer, one, other in zip(model.asked[::3], model.asked[1::3], model.asked[2::3], strict=True):
        assert len(dimer) == len(one) + len(other)
        np.testing.assert_array_equal(dimer.positions, np.concatenate([one.positions, other.positions]))


@pytest.mark.parametrize("says_so", [True, False])
def test_dimers_of_other_elements_are_left_out(says_so: bool, dimers: Dataset, context: Context) -> None:
    exact = Interacting(dimers)

    def picky(atoms: Atoms) -> float:
        if set(atoms.symbols) - {"C", "H"}:
            raise NotApplicable("no such element")
        return exact(atoms)

    model = KnownEnergy(energy=exact, elements=("C", "H")) if says_so else KnownEnergy(energy=picky)
    made = S22x5()
    seen = made.observe(model, dimers, context)
    kept = {dimers.trajectory[k] for k in seen["frame"]}
    assert kept == {
        "Methane_dimer", "Ethene_dimer", "Benzene-methane_complex", "Benzene_dimer_parallel_displaced",
        "Ethene-ethyne_complex", "Benzene_dimer_T-shaped",
    }  # fmt: skip
    assert len(seen["left_out"]) == 16
    found = {v.metric: v for v in made.score(seen, dimers) if not v.part}
    assert found["interaction_rmse"].n == 6
    assert found["interaction_rmse"].value < 1e-6
    bars = made.views(seen, dimers)[-1]
    assert isinstance(bars, Bars)
    assert bars.title == "Dimers"
    assert bars.values.sum() == 22
    assert bars.values[0] == 6
    assert any(("does not cover" if says_so else "no such element") in label for label in bars.labels)


def test_nothing_covered_is_skipped(dimers: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="the model does not cover H, N"):
        S22x5().observe(KnownEnergy(energy=lambda _: 0.0, elements=("Fe",)), dimers, context)


def test_a_failing_model_fails(few: Dataset, context: Context) -> None:
    def fails(_: Atoms) -> float:
        raise ModelFailure("did not converge")

    with pytest.raises(ModelFailure, match="did not converge"):
        S22x5().observe(KnownEnergy(energy=fails), few, context)


@pytest.mark.parametrize("refusal", [ModelFailure("did not converge"), NotApplicable("rather not")])
def test_a_dimer_that_the_model_covers_and_refuses_has_failed(
    few: Dataset, context: Context, refusal: Exception
) -> None:
    """Three dimers are 25 % too strong, the fourth is refused at one distance only."""
    strong = Interacting(few, lambda reference, _: 1.25 * reference)
    places = np.flatnonzero(np.array(few.trajectory) == "Methane_dimer")

    def energy(atoms: Atoms) -> float:
        if np.array_equal(atoms.positions, few.frames[places[2]].positions):
            raise refusal
        return strong(atoms)

    for elements in (few.spec.elements, None):
        found = measured(KnownEnergy(energy=energy, elements=elements), few, context)
        value = found["interaction_rmse", ""]
        assert value.failed == ("Methane_dimer",) and value.n_all == 4
        assert value.samples is not None and len(value.samples.units) == 3 and value.n == 3
        assert value.zero == pytest.approx(weak_rmse_meV(few))
        own = few.config_type[int(places[0])]
        assert found["interaction_rmse", "relative_distance=1.0"].failed == ("Methane_dimer",)
        parts = [one for (name, part), one in found.items() if name == "interaction_rmse" and "config_type=" in part]
        assert {one.part: one.failed for one in parts if one.failed} in ({}, {f"config_type={own}": value.failed})


def weak_rmse_meV(data: Dataset) -> float:
    """Return the root mean square of interaction energies, that of no dimer above 150 meV."""
    energy = 1000.0 * data.observables["interaction_energy_eV"]
    each = [np.sqrt((energy[np.array(data.trajectory) == name] ** 2).mean()) for name in set(data.trajectory)]
    return float(np.sqrt((np.minimum(each, 150.0) ** 2).mean()))


def test_models_of_other_elements_can_be_paired_on_the_dimers_of_both(dimers: Dataset, context: Context) -> None:
    """One of H, C and O answers for 10 of 22, and for these it is given the same numbers as one of all elements."""
    strong = Interacting(dimers, lambda reference, _: 1.25 * reference)
    few, every = (
        measured(KnownEnergy(energy=strong, elements=elements), dimers, context)["interaction_rmse", ""]
        for elements in (("H", "C", "O"), None)
    )
    assert (few.n, few.n_all, few.failed) == (10, 22, ()) and (every.n, every.n_all) == (22, 22)
    found = difference(few, every)
    assert few.samples is not None and set(found.influence) == set(few.samples.units)
    assert found.value == pytest.approx(0.0, abs=1e-9) and not found.significant
    assert every.value > 1.3 * few.value


def test_no_interaction_scores_nothing(dimers: Dataset, context: Context) -> None:
    value = measured(KnownEnergy(energy=lambda _: 0.0), dimers, context)["interaction_rmse", ""]
    assert value.zero == pytest.approx(weak_rmse_meV(dimers))
    assert value.value > 2.0 * value.zero
    assert metric_score(METRICS[0], value) == pytest.approx(0.0, abs=1e-12)


def test_curves_show_model_and_reference(dimers: Dataset, context: Context) -> None:
    made = S22x5()
    seen = made.observe(KnownEnergy(energy=Interacting(dimers, lambda e, _: 2.0 * e)), dimers, context)
    lines = {view.title: view for view in made.views(seen, dimers)}["Interaction curves"]
    assert isinstance(lines, Lines)
    assert lines.x.tolist() == [0.9, 1.0, 1.2, 1.5, 2.0]
    assert len(lines.names) == 8
    np.testing.assert_allclose(lines.y[::2], 2.0 * lines.y[1::2])
    assert not any(view.title == "Dimers" for view in made.views(seen, dimers))


def test_other_data_are_skipped(data: Dataset, few: Dataset, context: Context) -> None:
    model = KnownEnergy(energy=lambda _: 0.0)
    with pytest.raises(NotApplicable, match="has no 'interaction_energy_eV', one value for each of"):
        S22x5().observe(model, data, context)
    with pytest.raises(NotApplicable, match="no molecule numbers"):
        S22x5().observe(model, replace(few, molecule=None), context)
    assert few.molecule is not None
    with pytest.raises(BadInput, match="has 1 molecules; interaction energies are of two"):
        S22x5().observe(model, replace(few, molecule=0 * few.molecule), context)
    ion = few.frames[0].copy()
    ion.info["charge"] = 1
    with pytest.raises(NotApplicable, match="is charged, and no one says which"):
        S22x5().observe(model, replace(few, frames=(ion, *few.frames[1:])), context)


def test_keeps_the_contract(few: Dataset) -> None:
    weak = KnownEnergy(energy=Interacting(few, lambda reference, _: 0.9 * reference))
    check_benchmark(S22x5(), weak, few, perfect=KnownEnergy(energy=Interacting(few)))
    check_benchmark(S22x5(), replace(weak, elements=("H", "C", "O")), few)


def test_xtb_is_as_far_off_as_it_is_known_to_be(dimers: Dataset, context: Context) -> None:
    """GFN1-xTB, computed once without this benchmark: mean absolute errors in meV at the five distances."""
    pytest.importorskip("tblite")
    from mlipbench.models import load
    from mlipbench.models.entries import read_model

    found = measured(load(read_model("gfn1").spec, device="cpu"), dimers, context)
    known = {"0.9": 61, "1.0": 58, "1.2": 46, "1.5": 29, "2.0": 16}
    errors = {place: found["interaction_mae", f"relative_distance={place}"].value for place in known}
    assert errors == pytest.approx(known, abs=0.6)


def test_numbers_stay_with_their_version(few: Dataset, context: Context) -> None:
    """When this fails, raise a version; see test_golden.py."""
    about = S22x5.about
    assert (about.observe_version, about.score_version) == (2, 2)
    bent = KnownEnergy(energy=Interacting(few, lambda reference, place: 1.2 * reference + 0.05 * (place - 1.0) ** 2))
    found = {name: value.value for (name, part), value in measured(bent, few, context).items() if not part}
    golden = {"interaction_rmse": 27.7015365, "interaction_mae": 21.8092805, "interaction_bias": 0.80765256}
    assert found == pytest.approx(golden, rel=1e-6)


def test_each_is_asked_alone_where_all_are_refused(context: Context) -> None:
    groups = [[Atoms("H"), Atoms("He")], [Atoms("Fe")], [Atoms("C"), Atoms("H")], [Atoms("Xe"), Atoms("H")]]

    def energy(atoms: Atoms) -> float:
        if "Fe" in atoms.symbols:
            raise NotApplicable("no iron")
        if "Xe" in atoms.symbols:
            raise ModelFailure("exploded")
        return float(atoms.numbers[0])

    model = KnownEnergy(energy=energy)
    first, iron, carbon, xenon = ask_each(model, groups, context, remark="")
    assert np.asarray(first).tolist() == [1.0, 2.0]
    assert np.asarray(carbon).tolist() == [6.0, 1.0]
    assert isinstance(iron, NotApplicable)
    assert isinstance(xenon, ModelFailure)
    refused = ask_each(replace(model, elements=("H", "He", "Fe", "C", "Xe")), groups, context, remark="")[1]
    assert isinstance(refused, ModelFailure) and "refuses: no iron" in str(refused)
    model = KnownEnergy(energy=energy)
    ask_each(model, [groups[0], groups[2]], context, remark="")
    assert model.calls == [4]
    assert ask_each(model, [], context, remark="") == []


def test_a_missing_package_is_no_missing_element(context: Context) -> None:
    def energy(_: Atoms) -> float:
        raise MissingPackage("tblite is not installed", package="tblite")

    with pytest.raises(MissingPackage):
        ask_each(KnownEnergy(energy=energy), [[Atoms("H")]], context, remark="")


def test_texts_survive_as_numbers() -> None:
    texts = ["", "SCF not converged", "ångström " * 50]
    numbers = as_numbers(texts)
    assert numbers.dtype == np.uint8
    again = as_texts(numbers)
    assert again[:2] == texts[:2]
    assert texts[2].startswith(again[2])
    assert len(again[2]) > 150
    assert as_texts(as_numbers([])) == []


def test_what_is_left_out_is_counted_by_reason() -> None:
    assert left_out_view("Things", [], [], n_used=3) == ()
    (view,) = left_out_view("Things", ["a", "b", "c", "d", "e"], ["x", "y", "x", "x", "x"], n_used=3)
    assert view.labels == ("used", "left out (a, c, d, …): x", "left out (b): y")
    assert view.values.tolist() == [3.0, 4.0, 1.0]
