"""Does the gate stop what is worse, and only that?"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import ENERGY, FORCE, INTER, ROTATION, SPEED, Fake, provenance, result, value
from made_results import SUITE as FULL
from rich.console import Console

from mlipbench.core.measure import measure, squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.result import Broken, Failed, Measured, Outcome, Result, Skipped
from mlipbench.core.suite import Limit, Suite
from mlipbench.data.suites import check_decisions
from mlipbench.errors import BadInput
from mlipbench.report import family, gate
from mlipbench.report.baseline import RENEW, Baseline, Number, _digest

SUITE = replace(FULL, rows=tuple(row for row in FULL.rows if row.name in ("errors-test", "symmetry", "speed")))
GOOD: dict[str, Outcome] = {
    "errors-test": Measured(values=(value(FORCE, 100.0, stderr=2.0), value(ENERGY, 4.0, stderr=0.1))),
    "symmetry": Measured(values=(value(ROTATION, 1e-8, stderr=1e-9),)),
    "speed": Measured(values=(value(SPEED, 1e4, stderr=100.0),)),
}


def run(**changed: Any) -> list[Result]:
    """Return a candidate's results; keyword arguments replace outcomes, with "_" for "-" in the names of rows."""
    outcomes = {**GOOD, **{row.replace("_", "-"): outcome for row, outcome in changed.items()}}
    return [result(row, "m", outcome) for row, outcome in outcomes.items() if outcome is not None]


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    return gate.read_baseline(gate.write_baseline(run(), SUITE, tmp_path / "electrolyte.json"))


def code(results: list[Result], baseline: Baseline | None, suite: Suite = SUITE, **how: Any) -> int:
    return gate.gate(results, suite, "m", baseline, **how).exit_code


def force(number: float, stderr: float | None = 2.0) -> Measured:
    return Measured(values=(value(FORCE, number, stderr=stderr), value(ENERGY, 4.0, stderr=0.1)))


def test_the_accepted_model_passes_its_own_baseline(baseline: Baseline) -> None:
    found = gate.gate(run(), SUITE, "m", baseline)
    assert found.exit_code == 0
    assert {verdict.status for verdict in found.verdicts} == {"pass"}
    assert {(verdict.test, verdict.metric) for verdict in found.verdicts} == {
        ("limit", "force_rmse"), ("check", "rotation_force"), ("baseline", "force_rmse"),
        ("baseline", "energy_rmse"), ("baseline", "atoms_per_second"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (force(80.0), 0),  # better
        (force(104.9), 0),  # significant (1.7 errors: not), and less than the factor
        (force(104.9, 0.01), 0),  # significant, but less than the factor
        (force(115.0, 20.0), 0),  # more than the factor, but noise
        (force(115.0), 1),  # both
        (force(115.0, None), 0),  # no standard error: said, and not judged
        (force(151.0, 200.0), 1),  # past the limit of 150, however noisy
        (Failed(reason="NaN"), 1),
        (Skipped(reason="no element"), 1),  # it was measured before
        (Measured(values=(value(FORCE, 100.0, stderr=2.0), value(ENERGY, 5.0, stderr=0.1))), 1),
        (Broken(reason="bug"), 2),
        (None, 2),  # missing
        (Measured(values=(value(FORCE, 100.0, stderr=2.0),)), 1),  # the energy is no longer measured
        (Measured(values=(value(ENERGY, 4.0, stderr=0.1),)), 2),  # a limit that cannot be tested
    ],
)
def test_matrix_of_one_row(baseline: Baseline, outcome: Outcome | None, expected: int) -> None:
    assert code(run(errors_test=outcome), baseline) == expected


def test_the_highest_code_wins(baseline: Baseline) -> None:
    found = gate.gate(run(errors_test=force(200.0), speed=Broken(reason="bug")), SUITE, "m", baseline)
    assert {"worse", "cannot tell"} <= {verdict.status for verdict in found.verdicts}
    assert found.exit_code == 2
    assert "2 worse or past a limit" in found.says and "1 cannot be told" in found.says


@pytest.mark.parametrize(("number", "expected"), [(2e4, 0), (9e3, 0), (5e3, 1)])
def test_higher_is_better_is_read_the_right_way(baseline: Baseline, number: float, expected: int) -> None:
    speed = Measured(values=(value(SPEED, number, stderr=100.0),))
    assert code(run(speed=speed), baseline) == expected


def test_costs_are_not_compared_across_machines(baseline: Baseline) -> None:
    slow = [
        replace(r, provenance=provenance(hardware="another")) for r in run(speed=Measured(values=(value(SPEED, 10.0),)))
    ]
    found = gate.gate(slow, SUITE, "m", baseline)
    assert found.exit_code == 0
    assert [verdict.row for verdict in found.verdicts if verdict.status == "note"] == ["speed"]


def test_a_cost_without_a_spread_is_not_judged(baseline: Baseline) -> None:
    slow = run(speed=Measured(values=(value(SPEED, 10.0, stderr=None),)))
    assert gate.gate(slow, SUITE, "m", baseline).exit_code == 0
    spread = run(speed=Measured(values=(value(SPEED, 10.0, stderr=1.0),)))
    assert gate.gate(spread, SUITE, "m", baseline).exit_code == 1


def test_a_limit_on_a_cost_holds_on_every_machine(baseline: Baseline) -> None:
    limit = (Limit(metric="atoms_per_second", at_least=1e3),)
    suite = replace(SUITE, rows=tuple(replace(r, limits=limit) if r.name == "speed" else r for r in SUITE.rows))
    slow = [
        replace(r, provenance=provenance(hardware="another")) for r in run(speed=Measured(values=(value(SPEED, 10.0),)))
    ]
    assert code(slow, baseline, suite) == 1


# --- checks -----------------------------------------------------------------------------------------------------------


def turned(*each: float, stderr: float | None = None) -> Measured:
    """Return a rotation check with these errors in its frames."""
    if len(each) == 1:
        return Measured(values=(value(ROTATION, each[0], stderr=stderr),))
    units = [f"frame-{k}" for k in range(len(each))]
    return Measured(values=(measure(ROTATION, np.array([[x**2, 1.0] for x in each]), units, "root_mean"),))


@pytest.mark.parametrize("with_baseline", [True, False])
def test_a_failed_check_decides_with_and_without_a_baseline(baseline: Baseline, *, with_baseline: bool) -> None:
    found = gate.gate(run(symmetry=turned(2e-3)), SUITE, "m", baseline if with_baseline else None)
    assert found.exit_code == 1
    failed = [verdict for verdict in found.verdicts if verdict.test == "check" and verdict.status == "worse"]
    assert [(verdict.row, verdict.metric) for verdict in failed] == [("symmetry", "rotation_force")]
    assert "1 failed check" in found.says and "Rotation, forces 0.002" in gate.text(found)


def test_one_broken_frame_among_many_fails_a_check() -> None:
    # the mean over two hundred frames keeps the limit of 1e-3, the worst of them does not
    errors = [1e-9] * 199 + [5e-3]
    found = gate.gate(run(symmetry=turned(*errors)), SUITE, "m", None)
    assert np.sqrt(np.mean(np.square(errors))) < 1e-3
    assert found.exit_code == 1 and "frame-199" in gate.text(found)


def test_better_is_not_compared_among_checks_that_pass(baseline: Baseline) -> None:
    assert code(run(symmetry=turned(5e-5, stderr=1e-9)), baseline) == 0


def graded(severity: str, number: float, *, failed: tuple[str, ...] = ()) -> list[Result]:
    metric = replace(ROTATION, severity=severity)
    outcome = Measured(values=(replace(value(ROTATION, number), failed=failed),))
    return [replace(r, metrics=(metric,)) if r.row == "symmetry" else r for r in run(symmetry=outcome)]


def test_what_is_good_to_know_is_said_and_decides_nothing(baseline: Baseline) -> None:
    bare = replace(SUITE, rows=tuple(replace(r, limits=()) if r.name == "symmetry" else r for r in SUITE.rows))
    found = gate.gate(graded("good to know", 1.0), bare, "m", baseline)
    assert found.exit_code == 0 and "good to know" in gate.text(found)
    assert code(graded("fatal", 1.0), baseline, bare) == code(graded("must", 1.0), baseline, bare) == 1
    assert code(graded("good to know", 1.0), baseline) == 1  # a suite that sets a limit of its own means it


def test_a_check_that_the_model_has_no_answer_for_has_not_passed(baseline: Baseline) -> None:
    assert code(graded("must", 1e-9, failed=("frame-3",)), baseline) == 1


def test_a_check_that_was_not_made_is_said_and_where_demanded_cannot_be_told() -> None:
    skipped = run(symmetry=Skipped(reason="too large"))
    found = gate.gate(skipped, SUITE, "m", None)
    assert found.exit_code == 0 and "not made: too large" in gate.text(found)
    rows = tuple(replace(r, demands=("rotation_force",)) if r.name == "symmetry" else r for r in SUITE.rows)
    assert code(skipped, None, replace(SUITE, rows=rows)) == 2
    gone = run(symmetry=Measured(values=()))
    assert code(gone, None, replace(SUITE, rows=rows)) == 2
    assert code(run(symmetry=Measured(values=(), expected=("rotation_force",))), None) == 2


def test_a_check_that_the_baseline_made_cannot_be_dropped(baseline: Baseline) -> None:
    assert code(run(symmetry=Measured(values=(), expected=("rotation_force",))), baseline) == 1


def test_properties_and_diagnostics_are_not_judged(baseline: Baseline) -> None:
    def with_role(results: list[Result], role: Any) -> list[Result]:
        roles = {FORCE.name: replace(FORCE, role=role), ENERGY.name: replace(ENERGY, role=role)}
        return [replace(r, metrics=tuple(roles.get(m.name, m) for m in r.metrics)) for r in results]

    worse = Measured(values=(value(FORCE, 140.0, stderr=0.1), value(ENERGY, 9.0, stderr=0.1)))
    assert code(run(errors_test=worse), baseline) == 1
    for role in ("diagnostic", "property"):
        assert code(with_role(run(errors_test=worse), role), baseline) == 0


def test_a_model_that_fails_checks_is_no_baseline_without_a_reason(tmp_path: Path) -> None:
    broken, path = run(symmetry=turned(2e-3)), tmp_path / "b.json"
    with pytest.raises(BadInput, match=r"fails 1 check \(symmetry: Rotation, forces 0.002.*--accept-failed"):
        gate.write_baseline(broken, SUITE, path)
    assert not path.exists()
    accepted = gate.read_baseline(gate.write_baseline(broken, SUITE, path, accept_failed="the grid is coarse"))
    for results in (run(), broken):
        assert "the grid is coarse" in gate.text(gate.gate(results, SUITE, "m", accepted))
    assert code(run(), accepted) == 0
    assert code(broken, accepted) == 1  # what was accepted once is said, and not accepted again
    again = gate.read_baseline(gate.write_baseline(run(), SUITE, path))
    assert not again.accepted_failed


# --- paired, and all at once ------------------------------------------------------------------------------------------

PAIRED = replace(
    FULL, rows=tuple(replace(row, limits=()) for row in FULL.rows if row.name in ("errors-test", "intra-inter"))
)
HARD = np.exp(0.5 * np.random.default_rng(5).standard_normal(12))


def rmse(metric: Metric, each: np.ndarray, *, units: list[str] | None = None) -> MetricValue:
    names = [f"trajectory-{k}" for k in range(len(each))] if units is None else units
    return measure(metric, squares(each[:, None]), names, "root_mean")


def paired(force_scale: float, energy_scale: float = 1.0, *, scatter: float = 0.01, seed: int = 0) -> list[Result]:
    rng = np.random.default_rng(seed)
    each = [scale * HARD * np.exp(scatter * rng.standard_normal(12)) for scale in (force_scale, energy_scale, 1.0)]
    errors = Measured(values=(rmse(FORCE, 100 * each[0]), rmse(ENERGY, each[1])))
    return [
        result("errors-test", "m", errors),
        result("intra-inter", "m", Measured(values=(rmse(INTER, 10 * each[2]),))),
    ]  # fmt: skip


@pytest.fixture
def units(tmp_path: Path) -> Baseline:
    return gate.read_baseline(gate.write_baseline(paired(1.0), PAIRED, tmp_path / "paired.json"))


def test_a_ten_percent_regression_on_twelve_trajectories_is_found_when_paired(units: Baseline) -> None:
    found = gate.gate(paired(1.1, seed=1), PAIRED, "m", units)
    (worse,) = [verdict for verdict in found.verdicts if verdict.status == "worse"]
    assert (worse.metric, worse.row) == ("force_rmse", "errors-test")
    assert worse.worse_by == pytest.approx(0.1, abs=0.02) and worse.detectable < 0.08
    assert "errors-test force_rmse" in found.sensitivity and "80 % power" in found.sensitivity
    bare = replace(units, schema=1, models={"m": {
        row: replace(entry, unit_sets=(), values=tuple(replace(x, unit_set=None, rows=()) for x in entry.values))
        for row, entry in units.models["m"].items()
    }})  # fmt: skip
    unpaired = gate.gate(paired(1.1, seed=1), PAIRED, "m", bare)
    assert unpaired.exit_code == 0 and "nothing can be paired" in gate.text(unpaired)


def test_worse_is_worse_by_more_than_noise_and_by_more_than_the_tolerance(units: Baseline) -> None:
    assert code(paired(1.04, scatter=0.001, seed=1), units, PAIRED) == 0  # far beyond the noise, within 5 %
    assert code(paired(1.04, scatter=0.001, seed=1), units, PAIRED, tolerances={"force_rmse": 0.01}) == 1
    assert code(paired(1.3, scatter=0.5, seed=4), units, PAIRED) == 0  # beyond the tolerance, within the noise
    assert code(paired(0.5, seed=1), units, PAIRED) == 0


def test_the_number_of_questions_counts() -> None:
    # one question at p = 0.006 is worse at 1 %, one of twenty such independent questions is not
    one = family.question(
        "r", FORCE, value(FORCE, 130.0, stderr=10.0), value(FORCE, 100.0, stderr=6.0), domain="d", tolerance=0.05
    )  # fmt: skip
    assert 0.005 < one.p < 0.01
    assert family.answers([one], error_rate=0.01)[0].worse
    many = family.answers([one] * 20, error_rate=0.01)
    assert not any(answer.worse for answer in many)
    assert many[0].adjusted_p == pytest.approx(1 - (1 - one.p) ** 20, rel=0.1)


def test_numbers_made_of_the_same_units_are_no_more_questions_than_they_are() -> None:
    rng = np.random.default_rng(3)
    old = HARD * np.exp(0.05 * rng.standard_normal(12))
    new = 1.06 * HARD * np.exp(0.05 * rng.standard_normal(12))
    same = [family.question(str(k), FORCE, rmse(FORCE, new), rmse(FORCE, old), domain="d") for k in range(20)]
    alone = family.answers(same[:1], error_rate=0.01)[0].adjusted_p
    assert family.answers(same, error_rate=0.01)[0].adjusted_p == pytest.approx(alone, rel=0.15)
    apart = [family.question(str(k), FORCE, rmse(FORCE, new), rmse(FORCE, old), domain=str(k)) for k in range(20)]
    assert family.answers(apart, error_rate=0.01)[0].adjusted_p > 5 * alone


def test_equal_models_are_called_worse_as_rarely_as_stated() -> None:
    rng = np.random.default_rng(11)
    alarms = 0
    for _ in range(300):
        asked = []
        for domain in "ab":
            hard = np.exp(0.4 * rng.standard_normal(12))
            shared = rng.standard_normal((2, 12))
            for metric in (FORCE, ENERGY, INTER):
                pair = [rmse(metric, hard * np.exp(0.1 * (shared[k] + rng.standard_normal(12)))) for k in (0, 1)]
                asked.append(family.question(domain, metric, *pair, domain=domain, tolerance=0.0))
        alarms += any(answer.worse for answer in family.answers(asked, error_rate=0.1))
    assert 0.055 < alarms / 300 < 0.15


@pytest.mark.parametrize(("survivors", "expected"), [(8, 0), (7, 0), (2, 1)])
def test_counts_are_judged_exactly(survivors: int, expected: int) -> None:
    alive = replace(FORCE, name="survival", better="higher", good=1.0, bad=0.0)

    def share(k: int) -> MetricValue:
        rows = np.column_stack([np.arange(8) < k, np.ones(8)]).astype(np.float64)
        return measure(alive, rows, [str(i) for i in range(8)], "share")

    asked = family.question("stability", alive, share(survivors), share(8), domain="d")
    assert [answer.worse for answer in family.answers([asked], error_rate=0.01)] == [bool(expected)]


def test_a_system_that_is_refused_now_is_worse(units: Baseline) -> None:
    def less(results: list[Result], failed: tuple[str, ...]) -> list[Result]:
        kept = rmse(FORCE, 50 * HARD[:11])
        outcome = Measured(values=(replace(kept, failed=failed), rmse(ENERGY, HARD)))
        return [replace(results[0], outcome=outcome), *results[1:]]

    failing = gate.gate(less(paired(1.0), ("trajectory-11",)), PAIRED, "m", units)
    assert failing.exit_code == 1 and "no answer for 1 unit (trajectory-11)" in gate.text(failing)
    uncovered = gate.gate(less(paired(1.0), ()), PAIRED, "m", units)
    assert uncovered.exit_code == 1 and "no longer covers 1 unit" in gate.text(uncovered)
    limits = (Limit(metric="force_rmse", at_most=1e9),)
    suite = replace(
        PAIRED, rows=tuple(replace(row, limits=limits) if row.name == "errors-test" else row for row in PAIRED.rows)
    )
    assert code(less(paired(1.0), ("trajectory-11",)), None, suite) == 1


def test_models_without_a_unit_in_common_cannot_be_compared(units: Baseline) -> None:
    other = rmse(FORCE, 100 * HARD, units=[f"other-{k}" for k in range(12)])
    outcome = Measured(values=(other, rmse(ENERGY, HARD)))
    found = gate.gate([replace(paired(1.0)[0], outcome=outcome), paired(1.0)[1]], PAIRED, "m", units)
    assert found.exit_code == 2 and "no unit in common" in gate.text(found)


@pytest.mark.parametrize("rate", [0.0, 0.5, -1.0, float("nan")])
def test_an_error_rate_is_a_share(rate: float) -> None:
    with pytest.raises(BadInput, match="must lie between 0 and"):
        check_decisions(replace(PAIRED, error_rate=rate), where="--error-rate")


def test_the_baseline_of_another_version_of_the_suite_cannot_be_told(units: Baseline) -> None:
    found = gate.gate(paired(1.0), replace(PAIRED, version="2"), "m", units)
    assert found.exit_code == 2 and "version 1 of suite 'electrolyte', this is version 2" in gate.text(found)


# --- what the gate cannot tell ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"data_sha256": "00"}, "data"), ({"split": "other"}, "split"), ({"parameters": {"n": 5}}, "parameters"),
        ({"observe_version": 2}, "observe_version"), ({"score_version": 2}, "score_version"),
        ({"provenance": provenance(seed=7)}, "seeds"),
    ],
)  # fmt: skip
def test_other_conditions_are_not_compared(baseline: Baseline, changed: dict[str, Any], word: str) -> None:
    results = [replace(r, **changed) if r.row == "errors-test" else r for r in run()]
    found = gate.gate(results, SUITE, "m", baseline)
    assert found.exit_code == 2
    (unclear,) = [verdict for verdict in found.verdicts if verdict.status == "cannot tell"]
    assert f"({word})" in unclear.says and "write the baseline anew" in unclear.says


def test_nothing_measured_cannot_be_told(baseline: Baseline) -> None:
    nothing = {row.replace("-", "_"): Skipped(reason="x") for row in GOOD}
    assert code(run(**nothing), baseline) == 2
    assert code(run(**nothing), None) == 2
    assert code([], None) == 2
    assert gate.Verdicts(suite="s", candidate="m", against="", verdicts=(), error_rate=0.01).exit_code == 2


def test_skipped_passes_when_it_never_was_measured(tmp_path: Path) -> None:
    path = gate.write_baseline(run(speed=Skipped(reason="x")), SUITE, tmp_path / "b.json")
    old = gate.read_baseline(path)
    assert code(run(speed=Skipped(reason="x")), old) == 0
    assert code(run(), old) == 0
    assert code(run(speed=Skipped(reason="x")), None) == 0


def test_without_a_baseline_limits_decide() -> None:
    assert code(run(), None) == 0
    assert code(run(errors_test=force(151.0)), None) == 1
    bare = replace(SUITE, rows=tuple(replace(r, limits=()) for r in SUITE.rows if r.name != "symmetry"))
    found = gate.gate(run(), bare, "m", None)
    assert found.exit_code == 2
    assert "nothing to hold 'm' against" in gate.text(found)


def test_a_new_name_can_be_held_against_the_old_one(baseline: Baseline) -> None:
    new = [replace(r, model="m2") for r in run(errors_test=force(120.0))]
    assert gate.gate(new, SUITE, "m2", baseline).exit_code == 0  # only limits, and it says so
    assert "it holds: m" in gate.text(gate.gate(new, SUITE, "m2", baseline))
    assert gate.gate(new, SUITE, "m2", baseline, against="m").exit_code == 1
    with pytest.raises(BadInput, match="Did you mean 'm'"):
        gate.gate(new, SUITE, "m2", baseline, against="m1")


def test_rows_of_other_tiers_are_not_asked_for(baseline: Baseline) -> None:
    suite = replace(SUITE, rows=tuple(replace(r, tiers=("full",)) if r.name == "speed" else r for r in SUITE.rows))
    results = [r for r in run() if r.row != "speed"]
    assert code(results, baseline, suite) == 2
    assert code(results, baseline, suite, tier="quick") == 0


def test_parts_have_limits_too() -> None:
    limit = (Limit(metric="force_rmse", part="element=H", at_most=50.0),)
    suite = replace(SUITE, rows=(replace(SUITE.rows[0], limits=limit),))
    hydrogen = value(FORCE, 60.0, part="element=H")
    outcome = Measured(values=(value(FORCE, 100.0), hydrogen))
    assert code([result("errors-test", "m", outcome)], None, suite) == 1
    assert code([result("errors-test", "m", Measured(values=(value(FORCE, 100.0),)))], None, suite) == 2


def test_a_limit_on_a_metric_that_does_not_exist_is_bad_input() -> None:
    suite = replace(SUITE, rows=(replace(SUITE.rows[0], limits=(Limit(metric="force_rmes", at_most=1.0),)),))
    with pytest.raises(BadInput, match=r"row 'errors-test': unknown metric 'force_rmes'. Did you mean 'force_rmse'"):
        gate.gate(run(), suite, "m", None)


def test_tolerances_can_be_set_by_metric(baseline: Baseline) -> None:
    results = run(errors_test=force(115.0))
    assert code(results, baseline, tolerances={"force_rmse": 0.2}) == 0
    with pytest.raises(BadInput, match="unknown metric 'forces'"):
        code(results, baseline, tolerances={"forces": 0.2})
    with pytest.raises(BadInput, match="a share of at least 0"):
        code(results, baseline, tolerances={"force_rmse": -0.1})


# --- teeth ------------------------------------------------------------------------------------------------------------


def wrong_sign(asked: family.Question) -> family.Question:
    return replace(asked, error=asked.error.turned())


def no_tolerance(asked: family.Question) -> family.Question:
    return replace(asked, tolerance=0.0)


def no_noise(asked: family.Question) -> family.Question:
    return replace(asked, error=replace(asked.error, stderr=0.0))


def asleep(asked: family.Question) -> family.Question:
    return replace(asked, error=replace(asked.error, stderr=None))


@pytest.mark.parametrize("broken", [wrong_sign, no_tolerance, no_noise, asleep])
def test_a_broken_comparison_is_caught(
    units: Baseline, broken: Callable[[family.Question], family.Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        (paired(0.8, seed=1), 0), (paired(1.15, seed=1), 1), (paired(1.04, scatter=0.001, seed=1), 0),
        (paired(1.15, scatter=0.6, seed=4), 0),
    ]  # fmt: skip
    expected = [wanted for _, wanted in cases]
    assert [code(results, units, PAIRED) for results, _ in cases] == expected
    honest = family.question
    monkeypatch.setattr(gate, "question", lambda *given, **named: broken(honest(*given, **named)))
    assert [code(results, units, PAIRED) for results, _ in cases] != expected


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_baseline_survives_the_disk_and_keeps_other_models(tmp_path: Path) -> None:
    path = gate.write_baseline(run(), SUITE, tmp_path / "deep" / "b.json")
    first = path.read_bytes()
    gate.write_baseline([replace(r, model="n") for r in run(errors_test=force(50.0))], SUITE, path)
    both = gate.read_baseline(path)
    assert sorted(both.models) == ["m", "n"]
    assert both.models["m"]["errors-test"].values[0] == Number(metric="force_rmse", value=100.0, stderr=2.0, n=12)
    assert gate.write_baseline(run(), SUITE, tmp_path / "again.json").read_bytes() == first


def test_only_whole_runs_become_a_baseline(tmp_path: Path) -> None:
    for bad, why in (
        (run(speed=None), "no result for speed"), (run(speed=Broken(reason="x")), "no result for speed"),
        ([], "nothing measured"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=why):
            gate.write_baseline(bad, SUITE, tmp_path / "b.json", models=["m"])
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda text: text[: len(text) // 2], "not valid JSON"),
        (lambda text: "", "not valid JSON"),
        (lambda text: "[]", "no baseline"),
        (lambda text: text.replace('"schema": 2', '"schema": 99'), "schema 99, this version reads up to 2"),
        (lambda text: text.replace('"schema": 2', '"schema": "2"'), "no baseline"),
        (lambda text: text.replace('"schema": 2', '"schema": 1').replace('"split"', '"splitt"'), r"errors-test.split"),
        (lambda text: text.replace('"suite_version"', '"suit_version"'), "edited"),
        (lambda text: text.replace("100.0", "90.0"), "not as it was written"),
        (lambda text: text.replace("100.0", '"a hundred"'), "edited"),
        (lambda text: text.replace("100.0", "NaN"), "NaN is not a JSON number"),
        (lambda text: text.replace("100.0", "1e999"), "edited"),
        (lambda text: text.replace('"measured"', '"fine"'), "edited"),
    ],
)
def test_a_damaged_file_is_one_clear_sentence(tmp_path: Path, edit: Callable[[str], str], why: str) -> None:
    path = gate.write_baseline(run(), SUITE, tmp_path / "b.json")
    path.write_text(edit(path.read_text("utf-8")), encoding="utf-8")
    with pytest.raises(BadInput, match=why) as caught:
        gate.read_baseline(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_units_are_seen_even_when_the_digest_is_mended(tmp_path: Path, units: Baseline) -> None:
    path = gate.write_baseline(paired(1.0), PAIRED, tmp_path / "b.json")
    record = json.loads(path.read_text("utf-8"))
    record["models"]["m"]["errors-test"]["unit_sets"][0].pop()
    record["digest"] = _digest(record)
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BadInput, match=r"units are missing \(12 rows, 11 units\)"):
        gate.read_baseline(path)


def test_files_of_the_first_schema_are_read(tmp_path: Path, baseline: Baseline) -> None:
    record = json.loads((tmp_path / "electrolyte.json").read_text("utf-8"))
    old = {key: record[key] for key in ("suite", "suite_version", "models")} | {"schema": 1}
    for row in old["models"]["m"].values():
        row.pop("unit_sets")
        row["values"] = [{k: x[k] for k in ("metric", "value", "n", "part", "stderr")} for x in row["values"]]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old), encoding="utf-8")
    read = gate.read_baseline(path)
    found = gate.gate(run(), SUITE, "m", read)
    assert found.exit_code == 0 and "nothing can be paired" in gate.text(found) and RENEW in gate.text(found)
    assert code(run(errors_test=force(125.0)), read) == 1
    gate.write_baseline([replace(r, model="n") for r in run()], SUITE, path)
    assert sorted(gate.read_baseline(path).models) == ["m", "n"]


def test_the_baseline_of_another_suite_is_refused(tmp_path: Path, baseline: Baseline) -> None:
    other = replace(SUITE, name="smoke")
    with pytest.raises(BadInput, match="of suite 'electrolyte', not 'smoke'"):
        gate.gate(run(), other, "m", baseline)
    path = gate.write_baseline(run(), SUITE, tmp_path / "b.json")
    with pytest.raises(BadInput, match="of suite 'electrolyte', not 'smoke'"):
        gate.write_baseline(run(), other, path)


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        gate.read_baseline(tmp_path / "none.json")


# --- what it says -----------------------------------------------------------------------------------------------------


def test_reports_for_people_and_programs(baseline: Baseline, finished: list[Fake]) -> None:
    found = gate.gate(run(errors_test=force(120.0), speed=Broken(reason="[red]bug[/red]")), SUITE, "m", baseline)
    text = gate.text(found)
    assert "worse: errors-test force_rmse (baseline): 120 against 100 meV/Å: worse by 20 %" in text
    assert text.splitlines()[-2] == "m does not pass: 1 worse or past a limit, 1 cannot be told."
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(gate.shown(found, every=True))
    shown = console.export_text()
    assert "[red]bug[/red]" in shown and "within at most 150" in shown
    document = json.loads(gate.as_json(found))
    assert (document["schema"], document["exit_code"], document["against"]) == (2, 2, "m")
    assert len(document["verdicts"]) == len(found.verdicts)
    assert all(
        set(verdict) >= {"row", "metric", "part", "test", "status", "says", "value"} for verdict in document["verdicts"]
    )
