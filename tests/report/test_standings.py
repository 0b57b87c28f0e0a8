"""Are places no finer than the data allow, and are marks, failures and trainings what they are called?"""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from made_results import ENERGY, FORCE, INTER, ROTATION, SUITE, TRANSLATION, Fake, model_rows, provenance, result, value

from mlipbench.core.measure import measure, squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import ModelSpec
from mlipbench.core.policy import metric_score
from mlipbench.core.result import Measured, Result, Skipped
from mlipbench.report import page, table, verdicts
from mlipbench.report.board import assemble
from mlipbench.report.compare import Standing, difference, ranking
from mlipbench.report.scores import checks, composite, composite_difference

HARD = np.exp(0.5 * np.random.default_rng(5).standard_normal(12))
UNITS = [f"trajectory-{k}" for k in range(12)]


def rmse(metric: Metric, scale: float, *, scatter: float = 0.02, seed: int = 0, n: int = 12) -> MetricValue:
    each = scale * HARD * np.exp(scatter * np.random.default_rng(seed).standard_normal(12))
    return measure(metric, squares(each[:n, None]), UNITS[:n], "root_mean")


def test_what_has_no_interval_is_level() -> None:
    # the error of two molecules' frequencies, 30.00 against 30.01: nobody leads
    values = {"a": value(FORCE, 30.0, n=2), "b": value(FORCE, 30.01, n=2)}
    assert ranking(FORCE, values).places == {"a": Standing(first=1, last=2), "b": Standing(first=1, last=2)}
    assert (ranking(FORCE, values).best, ranking(FORCE, values).level) == ("a", frozenset({"b"}))


def test_places_are_ranges_and_tied_groups_show() -> None:
    values = {name: rmse(FORCE, scale, seed=k) for k, (name, scale) in enumerate(
        {"a": 100.0, "b": 100.3, "c": 130.0, "d": 200.0}.items())}  # fmt: skip
    found = ranking(FORCE, values).places
    assert {name: place.words for name, place in found.items()} == {"a": "1–2", "b": "1–2", "c": "3", "d": "4"}
    turned = ranking(replace(FORCE, better="higher"), values).places
    assert {name: place.words for name, place in turned.items()} == {"a": "3–4", "b": "3–4", "c": "2", "d": "1"}


def test_more_models_make_each_pair_harder_to_tell_apart() -> None:
    pair = {"a": rmse(FORCE, 100.0, scatter=0.05, seed=1), "b": rmse(FORCE, 104.5, scatter=0.05, seed=2)}
    assert 0.005 < difference(pair["a"], pair["b"]).p_value < 0.05
    assert ranking(FORCE, pair).places["a"].words == "1"
    crowd = {**pair, **{f"c{k}": rmse(FORCE, 103.0, scatter=0.05, seed=10 + k) for k in range(6)}}
    assert ranking(FORCE, crowd).places["a"].last > 1


def test_equal_models_are_rarely_told_apart() -> None:
    apart = 0
    for seed in range(300):
        values = {str(k): rmse(FORCE, 100.0, scatter=0.1, seed=4 * seed + k) for k in range(4)}
        apart += any(place != Standing(first=1, last=4) for place in ranking(FORCE, values).places.values())
    assert apart / 300 < 0.08  # 5 % for any of the six pairs


def test_models_are_compared_on_the_units_that_both_have() -> None:
    # c covers the two easiest only, and is worse there than a
    order = np.argsort(HARD)
    easy = [UNITS[k] for k in order[:4]]
    whole = rmse(FORCE, 100.0)
    part = measure(FORCE, squares(110.0 * HARD[order[:4], None]), easy, "root_mean")
    assert part.value < whole.value
    found = difference(part, whole)
    assert found.value > 0.0 and found.significant
    both = ranking(FORCE, {"a": whole, "c": part})
    # the easy ones alone make a smaller number, and neither a first place nor a star
    assert both.places["a"].words == "1" and both.best == "a" and both.level == frozenset()


def test_values_that_share_a_single_unit_tell_nothing_of_each_other() -> None:
    values = [rmse(FORCE, 100.0), measure(FORCE, squares(np.array([[1.0], [1.1]])), [UNITS[0], "other"], "root_mean")]
    assert difference(*values).stderr is None and not difference(*values).significant


@pytest.mark.parametrize(("alive", "told"), [(2, False), (8, True)])
def test_counts_are_ranked_by_exact_tests(alive: int, told: bool) -> None:
    # two of two against none of two have no scatter, and are no proof
    survival = replace(FORCE, name="survival", better="higher", good=1.0, bad=0.0)

    def share(hits: int) -> MetricValue:
        rows = np.column_stack([np.arange(alive) < hits, np.ones(alive)]).astype(np.float64)
        return measure(survival, rows, [str(k) for k in range(alive)], "share")

    found = ranking(survival, {"a": share(alive), "b": share(0)})
    assert found.best == "a" and (found.level == frozenset()) == told
    assert difference(share(alive), share(0)).p_value == pytest.approx(min(1.0, 2 * fisher(alive)))


def fisher(n: int) -> float:
    """n of n against none of n: one of the ways to choose n of 2 n."""
    return 1.0 / comb(2 * n, n)


# --- the composite ----------------------------------------------------------------------------------------------------


def suite_of(model: str, scale: float, *, seed: int, scatter: float = 0.02) -> list[Result]:
    values = (rmse(FORCE, scale, seed=seed, scatter=scatter), rmse(ENERGY, scale / 25, seed=seed + 50, scatter=scatter))
    moved = (rmse(TRANSLATION, scale / 2, seed=seed + 90, scatter=scatter),)
    return [
        result("errors-test", model, Measured(values=values)), result("rigid-body", model, Measured(values=moved)),
    ]  # fmt: skip


def test_composites_are_compared_unit_by_unit() -> None:
    results = [*suite_of("a", 90.0, seed=1), *suite_of("b", 96.0, seed=2), *suite_of("c", 90.5, seed=3)]
    found = table.leaderboard(results, SUITE)
    a, b = found.scores["a"], found.scores["b"]
    assert a.low < b.value < a.value  # each alone is uncertain, as trajectories are of different difficulty
    assert composite_difference(a, b).significant
    assert found.standings["a"].words == "1–2" and found.standings["b"].words == "3"
    records = table.records(found)
    (record,) = [one for one in records if one["model"] == "b" and one["metric"] == "score"]
    assert (record["rank_first"], record["rank_last"]) == (3, 3)


def test_equal_composites_are_rarely_told_apart() -> None:
    apart = 0
    for seed in range(200):
        results = [
            *suite_of("a", 90.0, seed=9 * seed, scatter=0.1),
            *suite_of("b", 90.0, seed=9 * seed + 4, scatter=0.1),
        ]
        board = assemble(results, SUITE)
        apart += composite_difference(composite(board, "a"), composite(board, "b")).significant
    assert apart / 200 < 0.1


def test_rows_that_share_trajectories_err_together() -> None:
    same = composite(assemble(suite_of("a", 90.0, seed=1), SUITE), "a")
    results = suite_of("a", 90.0, seed=1)
    apart = composite(assemble([results[0], replace(results[1], split="hotter")], SUITE), "a")
    assert same.high - same.low > 1.2 * (apart.high - apart.low)


def test_skipping_what_one_is_bad_at_never_pays() -> None:
    def hard(model: str, scale: float, seed: int) -> Result:
        return result("intra-inter", model, Measured(values=(rmse(INTER, scale, seed=seed),)))

    good = [*suite_of("good", 90.0, seed=1), hard("good", 30.0, 4)]
    bad = suite_of("bad", 80.0, seed=2)
    answering = table.leaderboard([*good, *bad, hard("bad", 95.0, 5)], SUITE)
    skipping = table.leaderboard([*good, *bad, result("intra-inter", "bad", Skipped(reason="rather not"))], SUITE)
    assert answering.models == ("good", "bad") and answering.standings["bad"].words == "2"
    assert skipping.scores["bad"].value > skipping.scores["good"].value  # over the rows it likes
    assert skipping.models == ("good", "bad") and skipping.standings["bad"].last == 2
    assert skipping.standings["good"].first == 1


def test_a_headline_number_that_the_data_allow_and_nobody_gave_scores_nothing() -> None:
    one = Measured(values=(rmse(FORCE, 20.0),))
    asked = replace(one, expected=("force_rmse", "energy_rmse"))
    free, held = (composite(assemble([result("errors-test", "a", x)], SUITE), "a").value for x in (one, asked))
    assert held == pytest.approx(free / 2)


def test_a_refused_system_counts_as_the_end_of_the_scale() -> None:
    whole = replace(rmse(FORCE, 60.0), n_all=12)
    hard = int(np.argmax(HARD))
    kept = [k for k in range(12) if k != hard]
    rest = measure(FORCE, squares(60.0 * HARD[kept, None]), [UNITS[k] for k in kept], "root_mean")
    refusing = replace(rest, n_all=12, failed=(UNITS[hard],))

    def scored(one: MetricValue, **changed: object) -> float:
        suite = replace(SUITE, **changed)  # type: ignore[arg-type]
        found = table.leaderboard([result("errors-test", "a", Measured(values=(one,)))], suite)
        assert found.policy == suite.failures
        return found.scores["a"].value

    assert rest.value < whole.value and scored(refusing) < scored(whole)
    fake = Fake(result("errors-test", "a", Measured(values=(refusing,))))
    shown = page.render(table.leaderboard([fake.result], SUITE), [fake], entries={})
    # the tint and the score under the pointer are those that count
    assert f"score {metric_score(FORCE, refusing):.2f}" in shown and "11 of 12, 1 failed" in shown
    assert scored(refusing, failures="exclude") > scored(whole)


# --- marks, trainings, skill ------------------------------------------------------------------------------------------


def test_reference_models_are_marks_and_take_no_place() -> None:
    spec = ModelSpec(name="zero", kind="reference", level_of_theory="")
    nothing = [replace(one, spec=spec) for one in suite_of("zero", 30.0, seed=7)]  # it would lead
    found = table.leaderboard([*suite_of("a", 90.0, seed=1), *suite_of("b", 96.0, seed=2), *nothing], SUITE)
    assert found.models == ("a", "b") and found.marks == ("zero",) and "zero" not in found.standings
    assert found.leaders(found.rows[0], "force_rmse")[0] == "a"
    assert {one["model"] for one in table.records(found)} == {"a", "b", "zero"}


def test_several_trainings_are_one_row_with_their_scatter() -> None:
    results = []
    for seed, scale in enumerate((90.0, 100.0, 110.0)):
        for one in suite_of("a", scale, seed=seed, scatter=0.0):
            results.append(replace(
                one, job_id=f"{one.job_id}-{seed}", model_key=f"key-{seed}", training_seed=seed, training_form="recipe",
                provenance=provenance(started=f"2026-01-0{seed + 1}T00:00:00Z"),
            ))  # fmt: skip
    board = assemble(results, SUITE)
    assert board.models == ("a",)
    cell = board.cell("a", "errors-test")
    force = cell.value("force_rmse")
    assert len(cell.results) == 3 and force.value == pytest.approx(rmse(FORCE, 100.0, scatter=0.0).value)
    assert force.training_stderr == pytest.approx(force.value * 0.1 / np.sqrt(3))
    # against a model that is 5 % better on every trajectory: certain for one training, not for three that scatter
    better = rmse(FORCE, 95.0, scatter=0.001)
    assert difference(better, rmse(FORCE, 100.0, scatter=0.001, seed=1)).significant
    assert difference(better, force).paired and not difference(better, force).significant
    # another recipe of the same name is another model
    other = [
        replace(one, training_form="other", provenance=provenance(started="2026-02-01T00:00:00Z"))
        for one in results[:1]
    ]
    assert len(assemble([*results, *other], SUITE).cell("a", "errors-test").results) == 1


def test_no_model_is_good_that_hardly_beats_knowing_nothing() -> None:
    def board(translation: float) -> table.Leaderboard:
        rows = model_rows("a", 0.2, 1)
        moved = replace(rmse(TRANSLATION, translation, scatter=0.0), zero=rmse(TRANSLATION, 100.0, scatter=0.0).value)
        results = [one.result for one in rows if one.result.row != "rigid-body"]
        return table.leaderboard([*results, result("rigid-body", "a", Measured(values=(moved,)))], SUITE)

    assert verdicts.tone(board(10.0), "a") == "good"
    poor = board(75.0)
    assert poor.scores["a"].value > 0.7 and verdicts.tone(poor, "a") == "fair"
    assert "Hardly better than a model that knows nothing: Translation RMSE on rigid-body" in verdicts.sentence(
        poor, "a"
    )


def test_the_worst_unit_is_named() -> None:
    each = np.array([1e-9, 2.0, 1e-9])
    turned = measure(ROTATION, squares(each[:, None]), ["f0", "f1", "f2"], "root_mean")
    board = assemble([result("symmetry", "a", Measured(values=(turned,)))], SUITE)
    (check,) = checks(board, "a")
    assert check.state == "failed" and check.value == pytest.approx(2.0) and "(f1)" in check.says
