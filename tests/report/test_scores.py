"""Is the composite what it says, and do comparisons hold?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import ENERGY, FORCE, INTER, ROTATION, SPEED, SUITE, TRANSLATION, Fake, result, sampled, value

from mlipbench.core.measure import measure, squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.result import Broken, Failed, Measured, Result, Skipped
from mlipbench.core.suite import Limit
from mlipbench.report import table
from mlipbench.report.board import assemble
from mlipbench.report.compare import difference, ranking
from mlipbench.report.scores import checks, composite, past_limit


def rows(**outcomes: object) -> list[Result]:
    return [result(row.replace("_", "-"), "a", outcome) for row, outcome in outcomes.items()]  # type: ignore[arg-type]


def measured(metric: Metric, number: float, stderr: float | None = None) -> Measured:
    return Measured(values=(value(metric, number, stderr=stderr),))


def test_composite_by_hand() -> None:
    # force 110 of 20…200 scores 0.5, energy 1 scores 1: 0.75; inter 55 of 10…100 scores 0.5; the failed row 0
    both = Measured(values=(value(FORCE, 110.0), value(ENERGY, 1.0)))
    found = composite(
        assemble(rows(errors_test=both, intra_inter=measured(INTER, 55.0), rigid_body=Failed(reason="x")), SUITE), "a"
    )
    assert found.value == pytest.approx((0.75 + 0.5 + 0.0) / 3)
    assert (found.scored, found.rows, found.low, found.high) == (3, 3, None, None)


def test_skipped_and_broken_rows_lower_the_coverage_and_not_the_score() -> None:
    outcomes = {
        "errors_test": measured(FORCE, 110.0),
        "intra_inter": Skipped(reason="x"),
        "rigid_body": Broken(reason="y"),
    }
    found = composite(assemble(rows(**outcomes), SUITE), "a")
    assert found.value == pytest.approx(0.5)
    assert found.coverage == pytest.approx(1 / 3)


def test_costs_and_checks_are_no_part_of_it() -> None:
    base = composite(assemble(rows(errors_test=measured(FORCE, 110.0)), SUITE), "a")
    more = rows(errors_test=measured(FORCE, 110.0), speed=measured(SPEED, 1e2), symmetry=measured(ROTATION, 5.0))
    assert composite(assemble(more, SUITE), "a") == base


def test_weights_count() -> None:
    heavy = replace(SUITE, rows=tuple(replace(r, weight=3.0 if r.name == "intra-inter" else 1.0) for r in SUITE.rows))
    results = rows(errors_test=measured(FORCE, 20.0), intra_inter=measured(INTER, 100.0))
    assert composite(assemble(results, heavy), "a").value == pytest.approx(0.25)


def test_the_composite_does_not_depend_on_who_else_takes_part(finished: list[Fake]) -> None:
    everyone = table.leaderboard([job.result for job in finished], SUITE)
    alone = table.leaderboard([job.result for job in finished if job.result.model == "mace-ci"], SUITE)
    assert alone.scores["mace-ci"] == everyone.scores["mace-ci"]


def test_the_interval_of_one_value_is_that_of_its_score() -> None:
    found = composite(assemble(rows(errors_test=measured(FORCE, 110.0, stderr=9.0)), SUITE), "a")
    assert found.low == pytest.approx((200 - 128) / 180, abs=0.01)
    assert found.high == pytest.approx((200 - 92) / 180, abs=0.01)


def test_rows_are_drawn_independently() -> None:
    one = composite(assemble(rows(errors_test=measured(FORCE, 110.0, stderr=9.0)), SUITE), "a")
    two = composite(
        assemble(
            rows(errors_test=measured(FORCE, 110.0, stderr=9.0), rigid_body=measured(TRANSLATION, 55.0, 4.5)), SUITE
        ),
        "a",
    )
    assert one.high is not None and one.low is not None and two.high is not None and two.low is not None
    assert (two.high - two.low) / (one.high - one.low) == pytest.approx(2**-0.5, abs=0.04)


def test_checks_use_limits_and_else_the_bad_end_of_the_scale() -> None:
    def passed(number: float, **changed: object) -> bool:
        suite = replace(
            SUITE, rows=tuple(replace(row, **changed) if row.name == "symmetry" else row for row in SUITE.rows)
        )
        (check,) = checks(assemble(rows(symmetry=measured(ROTATION, number)), suite), "a")
        return check.passed

    assert passed(1e-4) and not passed(1e-2)  # the suite's limit is 1e-3
    assert passed(1e-2, limits=()) and not passed(1.0, limits=()) and not passed(50.0, limits=())
    (failed,) = checks(assemble(rows(symmetry=Failed(reason="it raised")), SUITE), "a")
    assert not failed.passed and "it raised" in failed.says


def test_limits_have_two_sides() -> None:
    both = Limit(metric="m", at_least=1.0, at_most=2.0)
    assert [past_limit(both, x) for x in (0.9, 1.0, 2.0, 2.1)] == [True, False, False, True]


# --- comparisons ------------------------------------------------------------------------------------------------------


def test_pairing_removes_what_both_models_find_hard() -> None:
    first, second = sampled(FORCE, 100.0, seed=1), sampled(FORCE, 90.0, seed=1)
    paired = difference(first, second)
    apart = difference(replace(first, samples=None), replace(second, samples=None))
    assert paired.paired and not apart.paired
    assert paired.significant and not apart.significant
    assert paired.is_ratio and paired.value == pytest.approx(np.log(first.value / second.value))
    assert apart.value == pytest.approx(first.value - second.value)


@pytest.mark.parametrize("level", [5.0, -5.0])
def test_paired_standard_errors_are_the_textbook_ones(level: float) -> None:
    mean = replace(FORCE, name="mean")
    rng = np.random.default_rng(1)
    a, b = level + rng.normal(0.0, 0.5, 20), level + rng.normal(0.0, 0.5, 20)
    units = [f"u{i:02d}" for i in range(20)]
    one, two = (measure(mean, np.column_stack([x, np.ones(20)]), units, "mean") for x in (a, b))
    expected = np.log(a / b) if level > 0.0 else a - b
    found = difference(one, two)
    assert found.stderr == pytest.approx(expected.std(ddof=1) / np.sqrt(20))
    assert found.shift == pytest.approx(expected.mean())
    whole = np.log(a.mean() / b.mean()) if level > 0.0 else a.mean() - b.mean()
    assert found.value == pytest.approx(whole)


def test_other_units_are_not_paired() -> None:
    first = sampled(FORCE, 100.0)
    other = measure(FORCE, squares(np.ones((12, 3))), [f"other-{i}" for i in range(12)], "root_mean")
    assert not difference(first, other).paired


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e3), st.floats(0, 1e3))
def test_difference_is_antisymmetric(a: float, b: float, s: float, t: float) -> None:
    one, two = MetricValue(metric="m", value=a, stderr=s, n=5), MetricValue(metric="m", value=b, stderr=t, n=5)
    there, back = difference(one, two), difference(two, one)
    assert there.value == -back.value
    assert there.stderr == back.stderr
    assert there.significant == back.significant


def test_leaders_follow_the_direction() -> None:
    values = {
        "a": value(FORCE, 10.0, stderr=1.0),
        "b": value(FORCE, 11.0, stderr=1.0),
        "c": value(FORCE, 50.0, stderr=1.0),
    }
    assert (ranking(FORCE, values).best, ranking(FORCE, values).level) == ("a", frozenset({"b"}))
    assert (ranking(SPEED, values).best, ranking(SPEED, values).level) == ("c", frozenset())
    assert ranking(FORCE, {"a": values["a"]}).best is None
