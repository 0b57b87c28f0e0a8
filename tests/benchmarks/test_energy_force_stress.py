"""Errors of known size are found to be of that size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from pair_model import PairModel, labelled

from mlipbench.benchmarks.comparison import error_values, thinned
from mlipbench.benchmarks.energy_force_stress import (
    METRICS,
    SHAPE_KINDS,
    EnergyForceStress,
    _errors,
    _less_constants,
)
from mlipbench.benchmarks.frames import spread_out
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import measure
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Model
from mlipbench.core.view import Bars, Parity
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM

Values = dict[tuple[str, str], MetricValue]


def measured(model: Model, data: Dataset, context: Context, benchmark: EnergyForceStress | None = None) -> Values:
    made = EnergyForceStress() if benchmark is None else benchmark
    return {(v.metric, v.part): v for v in made.score(made.observe(model, data, context), data)}


def test_forces_a_tenth_too_large(data: Dataset, context: Context) -> None:
    found = measured(PairModel(scale=1.1), data, context)
    wrong = 100.0 * data.forces  # a tenth, in meV/Å
    assert found["force_rmse", ""].value == pytest.approx(np.sqrt((wrong**2).mean()))
    assert found["force_mae", ""].value == pytest.approx(np.abs(wrong).mean())
    assert found["force_q95", ""].value == pytest.approx(np.quantile(np.abs(wrong), 0.95))
    rms = np.sqrt((data.forces**2).mean())
    assert found["force_relative_rmse", ""].value == pytest.approx(0.1 * rms / data.forces.std())
    assert found["force_cosine", ""].value == pytest.approx(1.0)


def test_stress_a_tenth_too_large(data: Dataset, context: Context) -> None:
    found = measured(PairModel(scale=1.1), data, context)
    wrong = 0.1 * data.stress[data.has_stress] * GPA_PER_EV_PER_CUBIC_ANGSTROM
    assert found["stress_rmse", ""].value == pytest.approx(np.sqrt((wrong**2).mean()))
    assert found["stress_rmse", ""].n == 3  # trajectories of the liquid; nothing else is periodic


def test_energy_is_per_atom(data: Dataset, context: Context) -> None:
    """One constant for all elements is the same error per atom in every frame, and no error of shape."""
    found = measured(PairModel(shift_eV=dict.fromkeys((1, 3, 6, 8), 0.004)), data, context)
    assert found["energy_rmse", ""].value == pytest.approx(4.0, rel=1e-6)
    assert found["energy_mae", "config_type=liquid"].value == pytest.approx(4.0, rel=1e-6)
    assert found["energy_shape_rmse", ""].value == pytest.approx(0.0, abs=1e-6)


def test_shape_needs_no_common_zero_of_energy(data: Dataset, context: Context) -> None:
    shift = {1: 1.0, 3: -5.0, 6: 20.0, 8: 7.0}
    raw = measured(PairModel(scale=1.1), data, context)
    shifted = measured(PairModel(scale=1.1, shift_eV=shift), data, context)
    assert shifted["energy_rmse", ""].value > 1000.0
    assert shifted["energy_shape_rmse", ""].value == pytest.approx(raw["energy_shape_rmse", ""].value, rel=1e-6)
    assert shifted["force_rmse", ""].value == pytest.approx(raw["force_rmse", ""].value)


def test_shape_is_left_out_when_constants_could_fit_all(data: Dataset, context: Context) -> None:
    few = data.take([0, 6, 12])  # three compositions, three constants
    assert ("energy_shape_rmse", "") not in measured(PairModel(scale=1.1), few, context)


def test_parts_add_up_to_the_whole(data: Dataset, context: Context) -> None:
    found = measured(PairModel(scale=1.1), data, context)
    n_of = {name: int((data.numbers == z).sum()) for name, z in (("H", 1), ("Li", 3), ("C", 6), ("O", 8))}
    total = sum(n * found["force_rmse", f"element={name}"].value ** 2 for name, n in n_of.items())
    assert np.sqrt(total / len(data.numbers)) == pytest.approx(found["force_rmse", ""].value)
    for metric in ("energy_rmse", "force_rmse", "stress_rmse"):
        assert (metric, "config_type=liquid") in found


def test_interval_is_over_trajectories(data: Dataset, context: Context) -> None:
    found = measured(PairModel(scale=1.1), data, context)["force_rmse", ""]
    assert found.n == len(set(data.trajectory)) == 12
    assert found.samples is not None
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


def test_what_has_no_meaning_is_absent(data: Dataset, context: Context) -> None:
    without = measured(PairModel(gives_stress=False), data, context)
    assert not [key for key in without if key[0].startswith("stress")]
    # Forces on lone atoms have no spread to compare with, and no direction.
    lone = measured(PairModel(), data.take([18]), context)
    assert ("force_rmse", "") in lone and ("force_relative_rmse", "") not in lone and ("force_cosine", "") not in lone
    assert lone["force_rmse", ""].low is None


def test_two_trajectories_of_one_frame_each_give_finite_numbers(data: Dataset, context: Context) -> None:
    """Leaving one out leaves nothing to spread."""
    found = measured(PairModel(scale=1.1), data.take([0, 2]), context)
    assert found["energy_relative_rmse", ""].n == 2


def test_chosen_frames_are_spread_and_always_the_same(data: Dataset, context: Context) -> None:
    chosen = spread_out(data, 8)
    np.testing.assert_array_equal(chosen, spread_out(data, 8))
    assert len(chosen) == 8 == len(set(chosen.tolist()))
    kinds = [data.config_type[i] for i in chosen]
    assert {kinds.count(kind) for kind in set(data.config_type)} == {2}
    np.testing.assert_array_equal(spread_out(data, None), np.arange(len(data)))
    model = PairModel(scale=1.1)
    found = measured(model, data, context, EnergyForceStress(max_frames=8))
    assert model.calls == [8]
    assert found["force_rmse", ""].value == pytest.approx(
        measured(model, data.take(chosen.tolist()), context)["force_rmse", ""].value
    )


def test_nothing_to_measure_is_said(data: Dataset, context: Context) -> None:
    with pytest.raises(BadInput, match="max_frames is 0"):
        EnergyForceStress(max_frames=0).observe(PairModel(), data, context)
    with pytest.raises(NotApplicable, match="no frames"):
        EnergyForceStress().observe(PairModel(), data.take([]), context)


def test_worst_points_are_always_shown() -> None:
    errors = np.zeros(100_000)
    worst = np.arange(0, 100_000, 2003)
    errors[worst] = 1.0
    kept = thinned(errors)
    assert len(kept) == len(np.unique(kept)) == 3000
    assert set(worst.tolist()) <= set(kept.tolist())


def test_views_show_all_quantities(data: Dataset, context: Context) -> None:
    made = EnergyForceStress()
    views = made.views(made.observe(PairModel(scale=1.1), data, context), data)
    parities = {view.title: view for view in views if isinstance(view, Parity)}
    assert set(parities) == {"Forces", "Energies", "Stresses"}
    assert set(parities["Forces"].group) == {"H", "C", "O", "Li"}
    np.testing.assert_allclose(parities["Forces"].predicted, 1.1 * parities["Forces"].reference, atol=1e-9)
    elements = next(view for view in views if isinstance(view, Bars))
    assert elements.labels == ("C", "H", "Li", "O")


WRONG = {
    "frames, not atoms": lambda data: replace(data, energy=data.energy * data.n_atoms),
    "shuffled frames": lambda data: replace(data, energy=data.energy[::-1]),
    "force sign": lambda data: replace(data, forces=-data.forces),
    "stress sign": lambda data: replace(data, stress=-data.stress),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_labels_do_not_pass_for_right(name: str, context: Context) -> None:
    data = labelled(["molecule", "liquid"])
    right = measured(PairModel(), data, context)
    found = measured(PairModel(), WRONG[name](data), context)
    worst = max(found[metric, ""].value for metric in ("energy_rmse", "force_rmse", "stress_rmse"))
    assert max(right[metric, ""].value for metric in ("energy_rmse", "force_rmse", "stress_rmse")) < 1e-6
    assert worst > 0.1


def with_spectators(n_frames: int, n_elements: int, rng: np.random.Generator) -> Dataset:
    """Frames of random composition, with energies that know nothing but a constant per element and noise of 1 meV."""
    frames = tuple(
        Atoms(numbers=rng.integers(1, n_elements + 1, size=40), positions=rng.uniform(size=(40, 3)))
        for _ in range(n_frames)
    )
    constants = rng.normal(size=n_elements + 1)
    noise = rng.normal(scale=1e-3, size=n_frames)  # eV per atom
    energy = np.array([constants[one.numbers].sum() for one in frames]) + 40.0 * noise
    names = tuple(f"f{k}" for k in range(n_frames))
    return Dataset(
        spec=labelled(["atom"]).spec, frames=frames, uid=names, energy=energy, forces=np.zeros((40 * n_frames, 3)),
        stress=np.zeros((n_frames, 3, 3)), has_stress=np.zeros(n_frames, bool), trajectory=names,
        config_type=("",) * n_frames,
    )  # fmt: skip


@pytest.mark.parametrize(("n_frames", "n_elements"), [(20, 10), (24, 3)])
def test_fitted_constants_cost_degrees_of_freedom(n_frames: int, n_elements: int) -> None:
    """Errors of 1 meV are found as such, however many constants were fitted."""
    rng, squares, relative = np.random.default_rng(0), [], []
    for _ in range(200):
        data = with_spectators(n_frames, n_elements, rng)
        seen = {
            "energy": np.zeros(n_frames),
            "forces": data.forces,
            "stress": data.stress,
            "has_stress": data.has_stress,
        }
        shape = _less_constants(_errors(seen, data)[0], data)
        rmse, ratio = (value.value for value in error_values(shape, METRICS, kinds=SHAPE_KINDS))
        squares.append(rmse**2)
        relative.append(ratio)
    assert np.sqrt(np.mean(squares)) == pytest.approx(1.0, rel=0.03)
    assert relative == pytest.approx(np.ones(200))


def test_relative_stress_of_the_mean_tensor_is_one(data: Dataset) -> None:
    """Pressure differs from shear in the mean, and that is no spread."""
    chosen = data.take(np.flatnonzero(data.has_stress).tolist())
    shifted = replace(chosen, stress=chosen.stress - 0.1 * np.eye(3))
    seen = {
        "frame": np.arange(len(shifted)), "energy": shifted.energy, "forces": shifted.forces,
        "stress": np.broadcast_to(shifted.stress.mean(axis=0), shifted.stress.shape), "has_stress": shifted.has_stress,
    }  # fmt: skip
    found = {v.metric: v for v in EnergyForceStress().score(seen, shifted) if not v.part}
    assert found["stress_relative_rmse"].value == pytest.approx(1.0)
    assert found["stress_rmse"].zero == pytest.approx(found["stress_rmse"].value)


def test_cosine_stays_within_its_bounds(data: Dataset) -> None:
    """Forces are right but for one trajectory, where they point the other way."""
    sign = np.where(np.array(data.trajectory) == "liquid_1", -1.0, 1.0)[data.frame_of_atom]
    seen = {
        "frame": np.arange(len(data)), "energy": data.energy, "forces": sign[:, None] * data.forces,
        "stress": data.stress, "has_stress": data.has_stress,
    }  # fmt: skip
    found = next(v for v in EnergyForceStress().score(seen, data) if v.metric == "force_cosine")
    assert found.stderr is not None and found.value + 2.0 * found.stderr > 1.0, "or the case shows nothing"
    assert found.low is not None and -1.0 <= found.low < found.value
    assert found.high is not None and found.value < found.high <= 1.0


SIZE = Metric(name="m", title="M", unit="", better="lower", good=0.0, bad=1.0, says="", lowest=0.0)


@pytest.mark.parametrize("metric", [SIZE, replace(SIZE, lowest=None)])
def test_bounds_hold_for_means_of_sizes_and_not_for_sizes_of_means(metric: Metric) -> None:
    units, ones = [f"u{k}" for k in range(6)], np.ones(6)
    sizes = measure(metric, np.column_stack([[0.1, 0.2, 0.1, 0.3, 4.0, 0.1], ones]), units, "mean")
    assert sizes.stderr is not None and sizes.value - 2.57 * sizes.stderr < 0.0, "or the case shows nothing"
    assert sizes.low is not None and sizes.low > 0.0
    signed = measure(metric, np.column_stack([[-0.1, 0.2, -0.3, 0.1, -0.4, 0.3], ones]), units, "mean")
    assert signed.low is not None and signed.high is not None and signed.low < signed.value < 0.0 < signed.high
    free = measure(
        replace(metric, better="higher", lowest=None), np.column_stack([[0.1, 0.2], ones[:2]]), units[:2], "mean"
    )
    assert free.low is not None and free.low < 0.0


def test_what_referees_compare() -> None:
    merits = {metric.name: metric.tolerance for metric in EnergyForceStress.about.metrics if metric.role == "merit"}
    assert merits == {"energy_rmse": 0.5, "energy_shape_rmse": 0.1, "force_rmse": 0.05, "stress_rmse": 0.15}
    assert {m.role for m in EnergyForceStress.about.metrics} == {"merit", "diagnostic"}


def test_what_data_allow_is_expected_of_every_model(data: Dataset) -> None:
    made = EnergyForceStress()
    assert made.expects(data) == ("energy_shape_rmse", "force_rmse", "stress_rmse")
    assert made.expects(labelled(["molecule"])) == ("energy_shape_rmse", "force_rmse")
    assert made.expects(data.take([0, 6, 12])) == ("force_rmse", "stress_rmse")
    assert EnergyForceStress(max_frames=1).expects(labelled(["molecule"])) == ("force_rmse",)
