"""What is said of an atom is checked, and is relative to the atom alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from pair_model import PairModel
from site_model import Sums, SumsWithEnergies

from mlipbench.benchmarks.sites import centre_values, covered_elements, site_values, weights_of
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float
from mlipbench.errors import ModelFailure, NotApplicable


@dataclass(frozen=True)
class Says(PairModel):
    """Answers with this, whatever it is asked."""

    answer_with: Any = None

    def site_features(self, frames: list[Atoms]) -> Float:
        return np.asarray(self.answer_with(sum(len(atoms) for atoms in frames)))


def test_atoms_alone_have_nothing_to_say(data: Dataset, context: Context) -> None:
    lone = [Atoms("H"), Atoms("O", [[3.0, 4.0, 5.0]]), Atoms("OH", [[0, 0, 0], [50.0, 0, 0]])]
    for model in (Sums(), SumsWithEnergies()):
        assert not site_values(model, lone, context, remark="").values.any()


def test_features_are_those_of_the_model_frame_after_frame(data: Dataset, context: Context) -> None:
    model, frames = Sums(order=1), data.frames * 4  # more than one call
    found = site_values(model, frames, context, remark="").values
    assert found.shape == (4 * len(data.numbers), 3)
    constant = model.constant * np.tile(data.numbers, 4)[:, None]
    np.testing.assert_allclose(found, model.site_features(frames) - constant, atol=1e-12)
    first = np.concatenate([[0], np.cumsum([len(atoms) for atoms in frames])[:-1]])
    np.testing.assert_array_equal(centre_values(model, frames, context, remark="").values, found[first])


def test_features_come_before_energies(data: Dataset, context: Context) -> None:
    @dataclass(frozen=True)
    class Both(SumsWithEnergies):
        def site_features(self, frames: list[Atoms]) -> Float:
            return Sums(n_features=5).site_features(frames)

    assert site_values(Both(), data.frames[:1], context, remark="").values.shape[1] == 5
    assert site_values(SumsWithEnergies(), data.frames[:1], context, remark="").values.shape[1] == 1


def test_round_off_is_that_of_the_precision_and_of_the_constant(data: Dataset, context: Context) -> None:
    @dataclass(frozen=True)
    class Single(SumsWithEnergies):
        def site_energies(self, frames: list[Atoms]) -> Float:
            return super().site_energies(frames).astype(np.float32).astype(np.float64)

    double = site_values(SumsWithEnergies(), data.frames[:1], context, remark="").round_off
    single = site_values(Single(), data.frames[:1], context, remark="").round_off
    assert double == pytest.approx(1000.0 * 2.2e-16, rel=0.05)
    assert single == pytest.approx(1000.0 * 1.2e-7, rel=0.05)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.zeros, r"site_features of shape \(\d+,\) for"),
        (lambda n: np.zeros((n - 1, 2)), r"site_features of shape \(\d+, 2\) for"),
        (lambda n: np.zeros((n, 0)), r"site_features of shape \(\d+, 0\) for"),
        (lambda n: np.where(np.arange(n) == 7, np.nan, 0.0)[:, None], r"not finite in frame 1 \("),
    ],
)
def test_wrong_answers_are_the_models_fault(answer: Any, says: str, data: Dataset, context: Context) -> None:
    with pytest.raises(ModelFailure, match=says):
        site_values(Says(answer_with=answer), data.frames[:3], context, remark="")


def test_model_without_either_does_not_apply(data: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="model pairs has neither features nor energies of single atoms"):
        site_values(PairModel(), data.frames, context, remark="")


def test_elements_are_those_that_both_know(data: Dataset) -> None:
    assert covered_elements(Sums(), data).tolist() == [1, 3, 6, 8]
    assert covered_elements(Sums(elements=("O", "H", "N")), data).tolist() == [1, 8]
    with pytest.raises(NotApplicable, match="covers none of the elements of data set toy: H, C, O, Li"):
        covered_elements(Sums(elements=("N",)), data)


def test_scale_of_a_feature_does_not_matter() -> None:
    values = np.random.default_rng(0).normal(size=(20, 4))
    scales = np.array([1.0, 1e-3, 20.0, 0.5])
    none = np.zeros(4)
    np.testing.assert_allclose(
        weights_of(values * scales, none) * values * scales, weights_of(values, none) * values, rtol=0.03
    )


def test_tiny_features_do_not_show_the_round_off_of_large_ones() -> None:
    values = np.array([[1.0, 1e-16, 1e-11], [1.0, -1e-16, -1e-11]])
    weighed = weights_of(values, np.array([2e-16, 0.0, 2e-12])) * values
    assert 0.0 < np.abs(weighed[:, 1]).max() < 1e-9
    assert not weighed[:, 2].any()


def test_nothing_but_round_off_counts_for_nothing() -> None:
    assert not weights_of(np.full((4, 2), 1e-14), np.full(2, 2e-15)).any()
