"""The body order of sums over so many neighbours is found, and so is the size of what they add."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from hypothesis import given
from hypothesis import strategies as st
from pair_model import PairModel
from site_model import Sums, SumsWithEnergies, ace_of_order, soap

from mlipbench.benchmarks import body_order as module
from mlipbench.benchmarks.body_order import BodyOrder, mixed_differences
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue
from mlipbench.core.model import Float
from mlipbench.core.view import Lines
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.testing.benchmarks import check_benchmark

QUICK = BodyOrder(max_neighbours=5, n_draws=3)
Values = dict[tuple[str, str], MetricValue]


def measured(model: Any, data: Dataset, context: Context, made: BodyOrder = QUICK) -> Values:
    return {(v.metric, v.part): v for v in made.score(made.observe(model, data, context), data)}


def check_order(found: Values, order: int) -> None:
    """Sums over sets of `order` neighbours: the mixed difference is there up to that number, and then is not."""
    assert found["body_order", ""].value == order + 1
    for n in range(1, 6):
        difference = found["mixed_difference", f"neighbours={n}"].value
        assert difference > 1e-3 if n <= order else difference < 1e-11, n
    assert found["resolution", ""].value < 1e-9


def by_definition(values: Float) -> Float:
    """Mixed differences set by set, from their definition."""
    n = len(values).bit_length() - 1
    found = np.zeros_like(values)
    for whole in range(len(values)):
        things = [i for i in range(n) if whole >> i & 1]
        for size in range(len(things) + 1):
            for chosen in combinations(things, size):
                found[whole] += (-1) ** (len(things) - size) * values[sum(1 << i for i in chosen)]
    return found


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_mixed_differences_are_those_of_their_definition(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(2**n, 2))
    np.testing.assert_allclose(mixed_differences(values), by_definition(values), atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_sums_over_so_many_neighbours(order: int, data: Dataset, context: Context) -> None:
    check_order(measured(Sums(order=order), data, context), order)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_site_energies_need_no_features(order: int, data: Dataset, context: Context) -> None:
    check_order(measured(SumsWithEnergies(sums=Sums(order=order, n_features=1)), data, context), order)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ace_has_the_body_order_of_its_products(order: int, data: Dataset, context: Context) -> None:
    check_order(measured(ace_of_order(order, (1, 8)), data, context), order)


def test_power_spectrum_has_three_bodies(data: Dataset, context: Context) -> None:
    check_order(measured(soap((1, 8)), data, context), 2)


@dataclass(frozen=True)
class NetDirection(Sums):
    """|Σ_j r_j|² = Σ_j r_j² + 2 Σ_{j<k} r_j·r_k."""

    def site_features(self, frames: Sequence[Atoms]) -> Float:
        found = []
        for atoms in frames:
            i, vector = neighbor_list("iD", atoms, 8.0)
            net = np.zeros((len(atoms), 3))
            np.add.at(net, i, vector)
            found.append((net**2).sum(axis=1, keepdims=True))
        return np.concatenate(found)


def check_known_sizes(data: Dataset, context: Context) -> None:
    """Singles give r_j², pairs 2 r_j·r_k, triples nothing."""
    made = replace(QUICK, n_draws=1)
    full = made._arrangement(np.array([1, 3, 6, 8]), context.rng())
    places = full.positions[1:]
    pairs = np.array([2.0 * a @ b for a, b in combinations(places, 2)])
    whole = np.array([(sum(c) ** 2).sum() for n in range(1, 6) for c in combinations(places, n)])
    norm = np.sqrt((whole**2).mean())
    found = measured(NetDirection(), data, context, made)
    difference = [found["mixed_difference", f"neighbours={n}"].value for n in (1, 2, 3)]
    assert difference[0] == pytest.approx(np.sqrt(((places**2).sum(axis=1) ** 2).mean()) / norm)
    assert difference[1] == pytest.approx(np.sqrt((pairs**2).mean()) / norm)
    assert difference[2] < 1e-12
    assert found["body_order", ""].value == 3.0


def test_differences_of_known_size(data: Dataset, context: Context) -> None:
    check_known_sizes(data, context)


def without_signs(values: Float) -> Float:
    return np.array([values[[s for s in range(len(values)) if s & t == s]].sum(axis=0) for t in range(len(values))])


def one_neighbour_off(values: Float) -> Float:
    """The sets without their largest subsets: a sum that ends one too early."""
    return mixed_differences(values) - values


def without_the_empty_set(values: Float) -> Float:
    return mixed_differences(np.vstack([values[:1] + 1.0, values[1:]]))


WRONG: dict[str, Callable[[Float], Float]] = {
    "no signs": without_signs,
    "one neighbour off": one_neighbour_off,
    "wrong for the atom alone": without_the_empty_set,
}


@pytest.mark.parametrize("name", WRONG)
def test_the_checks_have_teeth(name: str, data: Dataset, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mixed_differences", WRONG[name])
    with pytest.raises(AssertionError):
        check_order(measured(Sums(), data, context), 2)
    with pytest.raises(AssertionError):
        check_known_sizes(data, context)


def test_more_neighbours_than_asked_for_means_at_least(data: Dataset, context: Context) -> None:
    few = replace(QUICK, max_neighbours=2)
    assert measured(Sums(order=4), data, context, few)["body_order", ""].value == 3.0


def test_terms_without_pairs_are_found(data: Dataset, context: Context) -> None:
    """Nothing for one neighbour, something for two."""

    @dataclass(frozen=True)
    class Angles(Sums):
        def site_features(self, frames: Sequence[Atoms]) -> Float:
            found = []
            for atoms in frames:
                i, vector = neighbor_list("iD", atoms, 8.0)
                own = [vector[i == k] for k in range(len(atoms))]
                found.append([[sum(a @ b for a, b in combinations(vectors, 2))] for vectors in own])
            return np.concatenate(found)

    found = measured(Angles(), data, context)
    assert found["body_order", ""].value == 3.0
    assert found["mixed_difference", "neighbours=1"].value == 0.0


def test_single_precision_is_seen_and_respected(data: Dataset, context: Context) -> None:
    @dataclass(frozen=True)
    class Single(SumsWithEnergies):
        def site_energies(self, frames: Sequence[Atoms]) -> Float:
            return super().site_energies(frames).astype(np.float32).astype(np.float64)

    found = measured(Single(), data, context)
    assert found["body_order", ""].value == 3.0
    assert found["mixed_difference", "neighbours=4"].value > QUICK.tolerance  # round-off, and known to be
    assert found["resolution", ""].value > found["mixed_difference", "neighbours=5"].value


def test_what_is_not_invariant_has_no_resolution(data: Dataset, context: Context) -> None:
    @dataclass(frozen=True)
    class AlongZ(Sums):
        def site_features(self, frames: Sequence[Atoms]) -> Float:
            return np.concatenate([np.full(len(a), np.abs(a.positions[:, 2]).sum()) for a in frames])[:, None]

    assert measured(AlongZ(), data, context)["resolution", ""].value > 1.0


def test_neighbours_are_where_they_should_be(context: Context) -> None:
    made = BodyOrder()
    for seed in range(20):
        places = made._arrangement(np.array([1, 8]), np.random.default_rng(seed)).positions
        distance = np.linalg.norm(places[1:], axis=1)
        assert (distance >= made.nearest_A).all() and (distance <= made.farthest_A).all()
        assert min(np.linalg.norm(a - b) for a, b in combinations(places[1:], 2)) >= made.apart_A


def test_arrangements_are_the_units(data: Dataset, context: Context) -> None:
    found = measured(Sums(), data, context)
    assert {value.n for value in found.values()} == {3}
    order = found["body_order", ""]
    assert (order.value, order.low, order.high) == (3.0, None, None), "three are too few for an interval of a median"


def test_contract(data: Dataset) -> None:
    check_benchmark(replace(QUICK, max_neighbours=3), Sums(), data, n_refusals=0)


def test_view_falls_by_decades(data: Dataset, context: Context) -> None:
    (shown,) = QUICK.views(QUICK.observe(NetDirection(), data, context), data)
    assert isinstance(shown, Lines)
    assert shown.x.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert (shown.y > 0.0).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_neighbours": 11}, "max_neighbours is 11; it must be a whole number from 1 to 10"),
        ({"n_draws": 0}, "n_draws is 0"),
        ({"nearest_A": 3.5}, "nearest_A is 3.5; it must be positive and below farthest_A"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"apart_A": 5.0}, "do not fit 5.0 Å apart; set apart_A or max_neighbours lower"),
    ],
)
def test_parameters_without_meaning_are_refused(
    changes: dict[str, Any], says: str, data: Dataset, context: Context
) -> None:
    with pytest.raises(BadInput, match=says):
        replace(QUICK, **changes).observe(Sums(), data, context)


def test_what_cannot_be_asked_is_said(data: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="neither features nor energies"):
        QUICK.observe(PairModel(), data, context)
    with pytest.raises(NotApplicable, match=r"sees no neighbour between 1.2 and 3.0 Å; set farthest_A below"):
        QUICK.observe(Sums(cutoff_A=0.7), data, context)
