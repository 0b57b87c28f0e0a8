"""Descriptors of known body order tell apart the pairs they can, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from pair_model import PairModel
from site_model import Sums, SumsWithEnergies, ace_of_order, soap

from mlipbench.benchmarks import completeness as module
from mlipbench.benchmarks.completeness import Completeness
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue
from mlipbench.core.model import Float
from mlipbench.core.view import Bars
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.environments import SAME, THREE_BODY, TWO_BODY
from mlipbench.testing.benchmarks import check_benchmark

PAIRS = ("two_body_distance", "three_body_distance", "four_body_distance")


def measured(model: Any, data: Dataset, context: Context, made: Completeness | None = None) -> dict[str, MetricValue]:
    made = Completeness() if made is None else made
    return {v.metric: v for v in made.score(made.observe(model, data, context), data)}


def check_pairs(found: dict[str, MetricValue], n_told_apart: int) -> None:
    """The first so many pairs differ, the others do not, and equal surroundings do not either."""
    assert found["pairs_told_apart"].value == n_told_apart
    for k, name in enumerate(PAIRS):
        assert found[name].value > 1e-5 if k < n_told_apart else found[name].value < 1e-11, name
    assert found["control_difference"].value < 1e-11
    assert found["displacement_change"].value > 1e-5


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_sums_over_so_many_neighbours(order: int, data: Dataset, context: Context) -> None:
    check_pairs(measured(Sums(order=order), data, context), order - 1)
    sums = Sums(order=order, n_features=1)
    check_pairs(measured(SumsWithEnergies(sums=sums), data, context), order - 1)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ace_tells_apart_one_pair_more_with_each_order(order: int, data: Dataset, context: Context) -> None:
    found = measured(ace_of_order(order, (6,)), data, context)
    check_pairs(found, order - 1)
    assert found["two_body_distance"].value > 0.1 or order == 1


def test_power_spectrum_fails_four_neighbours(data: Dataset, context: Context) -> None:
    check_pairs(measured(soap((6, 8)), data, context), 1)


@dataclass(frozen=True)
class NetDirection(Sums):
    """|Σ_j r_j|², which a pencil can evaluate."""

    def site_features(self, frames: Sequence[Atoms]) -> Float:
        found = []
        for atoms in frames:
            i, vector = neighbor_list("iD", atoms, 3.6)
            net = np.zeros((len(atoms), 3))
            np.add.at(net, i, vector)
            found.append((net**2).sum(axis=1, keepdims=True))
        return np.concatenate(found)


def test_difference_of_known_size(data: Dataset, context: Context) -> None:
    """Two neighbours: 80 against 0, whose mean square is 80²/2. Three-body: 450 on either side."""
    found = measured(NetDirection(), data, context)
    assert found["two_body_distance"].value == pytest.approx(np.sqrt(2.0))
    assert found["three_body_distance"].value < 1e-12


def test_the_centre_may_know_of_its_neighbours_surroundings(data: Dataset, context: Context) -> None:
    """Messages of pairs alone can tell apart what no pairs around one atom can, and are not to blame."""

    @dataclass(frozen=True)
    class Messages(Sums):
        def site_features(self, frames: Sequence[Atoms]) -> Float:
            found = []
            for atoms in frames:
                i, j, r = neighbor_list("ijd", atoms, 4.5)
                first = np.bincount(i, np.exp(-r), minlength=len(atoms))
                found.append(np.bincount(i, np.exp(-r) * first[j] ** 2, minlength=len(atoms)))
            return np.concatenate(found)[:, None]

    found = measured(Messages(), data, context)
    assert found["two_body_distance"].value > 1e-3
    assert found["pairs_told_apart"].value >= 1.0
    assert found["control_difference"].value < 1e-12


def test_what_is_not_invariant_tells_nothing_apart(data: Dataset, context: Context) -> None:
    @dataclass(frozen=True)
    class AlongZ(Sums):
        def site_features(self, frames: Sequence[Atoms]) -> Float:
            along = np.concatenate([np.abs(atoms.positions[:, 2] - atoms.positions[0, 2]) for atoms in frames])
            total = np.concatenate([np.full(len(atoms), np.abs(atoms.positions[:, 2]).sum()) for atoms in frames])
            return np.column_stack([super().site_features(frames), along + total])

    found = measured(AlongZ(order=4), data, context)
    assert found["control_difference"].value > 0.01
    assert found["pairs_told_apart"].value < 3.0


def test_single_precision_tells_apart_only_what_it_resolves(data: Dataset, context: Context) -> None:
    """In energies of -1000 eV, single precision hides what is below 6e-5 eV, whatever the threshold."""

    @dataclass(frozen=True)
    class Single(SumsWithEnergies):
        def site_energies(self, frames: Sequence[Atoms]) -> Float:
            return super().site_energies(frames).astype(np.float32).astype(np.float64)

    low = Completeness(threshold=1e-15)
    sums = Sums(order=4, n_features=1)
    assert measured(SumsWithEnergies(sums=sums), data, context, low)["pairs_told_apart"].value == 3.0
    assert measured(Single(sums=sums), data, context, low)["pairs_told_apart"].value < 3.0


def test_threshold_decides(data: Dataset, context: Context) -> None:
    made = Completeness()
    seen = made.observe(Sums(order=4), data, context)
    told_apart = {
        threshold: replace(made, threshold=threshold).score(seen, data)[0].value for threshold in (1e-6, 1e-2, 10.0)
    }
    assert told_apart == {1e-6: 3.0, 1e-2: 2.0, 10.0: 0.0}


def test_each_element_is_a_unit(data: Dataset, context: Context) -> None:
    seen = Completeness().observe(Sums(), data, context)
    assert seen["element"].tolist() == [1, 3, 6, 8]
    assert {v.n for v in Completeness().score(seen, data)} == {4}
    only = measured(Sums(elements=("H",)), data, context)["two_body_distance"]
    assert (only.n, only.low) == (1, None)


def test_contract(data: Dataset) -> None:
    check_benchmark(Completeness(), Sums(order=3), data, n_refusals=0)


def test_equal_values_can_be_shown(data: Dataset, context: Context) -> None:
    made = Completeness()
    (shown,) = made.views(made.observe(NetDirection(), data, context), data)
    assert isinstance(shown, Bars)
    assert (shown.values > 0.0).all()
    assert len(shown.labels) == 5


def test_what_cannot_be_asked_is_said(data: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="neither features nor energies"):
        Completeness().observe(PairModel(), data, context)
    with pytest.raises(NotApplicable, match=r"sees no neighbour at distances up to 3.5 Å; set radius_A"):
        Completeness().observe(Sums(cutoff_A=0.5), data, context)
    with pytest.raises(BadInput, match="threshold is 0"):
        Completeness(threshold=0.0).observe(Sums(), data, context)


WRONG = {
    "no turns": {"random_rotation": lambda rng: np.diag([1.0, 1.0, 0.5])},
    "published pair": {"DIFFERENT": (TWO_BODY, THREE_BODY, SAME[0])},
}


@pytest.mark.parametrize("name", WRONG)
def test_the_check_has_teeth(name: str, data: Dataset, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    for attribute, value in WRONG[name].items():
        monkeypatch.setattr(module, attribute, value)
    with pytest.raises(AssertionError):
        check_pairs(measured(Sums(order=4), data, context), 3)
