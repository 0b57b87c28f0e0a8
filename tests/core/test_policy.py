"""A failure is never better than a wrong answer, whatever the reducer and the weights of the units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.core.measure import by_unit, measure
from mlipbench.core.metric import Metric, MetricValue, score
from mlipbench.core.policy import (
    POLICY_WORDS,
    counted,
    counted_zero,
    metric_score,
    row_score,
    share_answered,
)
from mlipbench.core.suite import POLICIES

ERROR = Metric(name="e", title="E", unit="meV", better="lower", good=1.0, bad=100.0, says="", headline=True)
COSINE = Metric(name="c", title="C", unit="", better="higher", good=1.0, bad=0.0, says="", headline=True, highest=1.0)


def of(values: dict[str, float], reducer: str, *, metric: Metric = ERROR, weight: dict[str, float] | None = None,
       failed: tuple[str, ...] = (), zero: float | None = None) -> MetricValue:  # fmt: skip
    """Return a value with one row for each unit, of the values and weights given."""
    n = np.array([(weight or {}).get(name, 1.0) for name in values])
    each = np.array(list(values.values()))
    rows = np.column_stack([n * (each**2 if reducer == "root_mean" else each), n])
    made = measure(metric, rows, list(values), reducer)
    return replace(made, failed=failed, n_all=len(values) + len(failed), zero=zero)


def test_a_failed_unit_counts_as_bad() -> None:
    """Three units of 3, 4 and the cap 100: the root of (9 + 16 + 10000) / 3, and the mean 107 / 3."""
    for reducer, wanted in (("root_mean", np.sqrt(10025 / 3)), ("mean", 107 / 3)):
        got = counted(ERROR, of({"a": 3.0, "b": 4.0}, reducer, failed=("z",)))
        assert got.value == pytest.approx(wanted)
        assert got.samples is not None and got.samples.units == ("a", "b", "z")
        assert by_unit(got.samples).tolist() == pytest.approx([3.0, 4.0, 100.0])
        assert got.failed == () and got.n == 3


def test_a_unit_past_the_scale_counts_as_bad_where_nothing_failed() -> None:
    got = counted(ERROR, of({"a": 4.0, "b": 5000.0}, "mean"))
    assert got.value == pytest.approx(52.0)


def test_a_model_that_knows_nothing_scores_nothing() -> None:
    """Also where it is nearly right of some systems, and past the scale in others."""
    ignorant = of({"a": 4.0, "b": 60.0, "c": 500.0}, "root_mean")
    zero = counted_zero(ERROR, ignorant)
    assert zero == pytest.approx(np.sqrt((16 + 3600 + 10000) / 3))
    assert metric_score(ERROR, replace(ignorant, zero=zero)) == 0.0
    assert metric_score(ERROR, of({"a": 4.0, "b": 50.0, "c": 90.0}, "root_mean", zero=zero)) > 0.0


def test_where_higher_is_better_the_cap_is_from_below() -> None:
    got = counted(COSINE, of({"a": 0.9, "b": -0.7, "c": 0.8}, "mean", metric=COSINE, failed=("z",)))
    assert got.value == pytest.approx((0.9 + 0.0 + 0.8 + 0.0) / 4)
    assert got.high is not None and got.high <= 1.0


def test_values_that_do_not_say_how_many_there_are_stay() -> None:
    plain = replace(of({"a": 4.0, "b": 5000.0}, "mean"), n_all=None)
    assert counted(ERROR, plain) is plain
    assert metric_score(ERROR, plain) == 0.0


def test_relative_errors_are_capped_against_the_spread_of_all() -> None:
    """Reference 0 and 2 in each unit: variance 1; errors of 0.5 and 7 of it."""
    rows = np.array([[2 * 0.25, 2.0, 2.0, 4.0], [2 * 49.0, 2.0, 2.0, 4.0]])
    metric = replace(ERROR, bad=1.0, good=0.0)
    made = replace(measure(metric, rows, ["a", "b"], "relative_root_mean"), n_all=3, failed=("c",))
    got = counted(metric, made)
    assert got.value == pytest.approx(np.sqrt((0.25 + 1.0 + 1.0) / 3))
    assert counted(metric, got).value == pytest.approx(got.value)


def test_without_samples_the_score_falls_with_the_share() -> None:
    bare = MetricValue(metric="e", value=1.0, n=3, failed=("z",), n_all=4)
    assert metric_score(ERROR, bare) == pytest.approx(0.75)
    assert share_answered(bare) == 0.75


def test_policies_differ() -> None:
    half = of({"a": 1.0}, "mean", failed=("z",))
    assert metric_score(ERROR, half, policy="exclude") == 1.0
    assert metric_score(ERROR, half, policy="penalty") == 0.5
    assert metric_score(ERROR, half) == pytest.approx(score(ERROR, 50.5))
    assert metric_score(ERROR, None) == 0.0


def test_every_policy_of_suites_has_its_words() -> None:
    assert set(POLICY_WORDS) == set(POLICIES)


def test_row_score_counts_what_is_missing() -> None:
    other = replace(ERROR, name="other")
    aside = replace(ERROR, name="aside", role="diagnostic")
    values = [of({"a": 1.0}, "mean"), replace(of({"a": 100.0}, "mean"), part="config_type=x")]
    assert row_score([ERROR, other, aside], values, ()) == 1.0
    assert row_score([ERROR, other, aside], values, ("e", "other", "aside")) == 0.5
    assert row_score([aside], [], ("aside",)) is None


def test_a_withheld_interval_stays_withheld() -> None:
    value = replace(of({"a": 1.0, "b": 2.0, "c": 3.0}, "mean"), stderr=None, low=None, high=None)
    assert counted(ERROR, value).low is None
    assert counted(ERROR, of({"a": 1.0}, "mean", failed=("b", "c"))).low is not None


Case = tuple[dict[str, float], dict[str, float], list[str]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Values and weights of units, and which of them are refused; never all."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=8, unique=True))
    values = {name: draw(st.floats(0.0, 400.0)) for name in names}
    weights = {name: draw(st.integers(1, 50)) * 1.0 for name in names}
    return values, weights, draw(st.lists(st.sampled_from(names), min_size=1, max_size=len(names) - 1, unique=True))


@settings(max_examples=300, deadline=None)
@given(cases(), st.sampled_from(["root_mean", "mean"]), st.sampled_from([None, 30.0]), st.booleans())
def test_refusing_never_helps(case: Case, reducer: str, zero: float | None, log_scale: bool) -> None:
    """Whatever units are refused, however heavy they are."""
    values, weight, refused = case
    metric = replace(ERROR, log_scale=log_scale)
    before = of(values, reducer, weight=weight, zero=zero)
    kept = {name: value for name, value in values.items() if name not in refused}
    after = of(kept, reducer, weight=weight, failed=tuple(refused), zero=zero)
    assert metric_score(metric, after) <= metric_score(metric, before) + 1e-12
    assert metric_score(metric, counted(metric, after)) == pytest.approx(metric_score(metric, after))
