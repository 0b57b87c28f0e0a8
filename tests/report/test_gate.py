"""Does the gate stop what is worse, and only that?"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_results import ENERGY, FORCE, PERMUTATION, ROTATION, SPEED, Fake, provenance, result, value
from made_results import SUITE as FULL
from rich.console import Console

from mlipbench.core.metric import MetricValue
from mlipbench.core.result import Broken, Failed, Measured, Outcome, Result, Skipped
from mlipbench.core.suite import Limit, Suite
from mlipbench.errors import BadInput
from mlipbench.report import gate
from mlipbench.report.baseline import Baseline, Number

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
        ("limit", "force_rmse"), ("limit", "rotation_force"), ("baseline", "force_rmse"), ("baseline", "energy_rmse"),
        ("baseline", "rotation_force"), ("baseline", "atoms_per_second"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (force(80.0), 0),  # better
        (force(104.9), 0),  # significant (1.7 errors: not), and less than the factor
        (force(104.9, 0.01), 0),  # significant, but less than the factor
        (force(115.0, 20.0), 0),  # more than the factor, but noise
        (force(115.0), 1),  # both
        (force(115.0, None), 1),  # no standard error: the factor decides
        (force(151.0, 200.0), 1),  # past the limit of 150, however noisy
        (Failed(reason="NaN"), 1),
        (Skipped(reason="no element"), 1),  # it was measured before
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


def test_noise_in_a_check_that_passes_in_full_is_no_regression(baseline: Baseline) -> None:
    assert code(run(symmetry=Measured(values=(value(ROTATION, 5e-8, stderr=1e-9),))), baseline) == 0
    assert code(run(symmetry=Measured(values=(value(ROTATION, 5e-5, stderr=1e-6),))), baseline) == 1


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
    assert gate.Verdicts(suite="s", candidate="m", against="", verdicts=()).exit_code == 2


def test_skipped_passes_when_it_never_was_measured(tmp_path: Path) -> None:
    path = gate.write_baseline(run(speed=Skipped(reason="x")), SUITE, tmp_path / "b.json")
    old = gate.read_baseline(path)
    assert code(run(speed=Skipped(reason="x")), old) == 0
    assert code(run(), old) == 0
    assert code(run(speed=Skipped(reason="x")), None) == 0


def test_without_a_baseline_limits_decide() -> None:
    assert code(run(), None) == 0
    assert code(run(errors_test=force(151.0)), None) == 1
    bare = replace(SUITE, rows=tuple(replace(row, limits=()) for row in SUITE.rows))
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


def test_factors_can_be_set_by_metric(baseline: Baseline) -> None:
    results = run(errors_test=force(115.0))
    assert code(results, baseline, factors={"force_rmse": 1.2}) == 0
    with pytest.raises(BadInput, match="unknown metric 'forces'"):
        code(results, baseline, factors={"forces": 1.2})
    with pytest.raises(BadInput, match="a factor of at least 1"):
        code(results, baseline, factors={"force_rmse": 0.9})


# --- teeth ------------------------------------------------------------------------------------------------------------


def wrong_sign(metric: Any, new: MetricValue, old: Number, *, factor: float) -> tuple[bool, str]:
    flipped = replace(metric, better="higher" if metric.better == "lower" else "lower")
    return gate_is_worse(flipped, new, old, factor=factor)


def always_lower(metric: Any, new: MetricValue, old: Number, *, factor: float) -> tuple[bool, str]:
    return gate_is_worse(replace(metric, better="lower"), new, old, factor=factor)


def factor_only(metric: Any, new: MetricValue, old: Number, *, factor: float) -> tuple[bool, str]:
    return gate_is_worse(metric, replace(new, stderr=None), old, factor=factor)


def significance_only(metric: Any, new: MetricValue, old: Number, *, factor: float) -> tuple[bool, str]:
    return gate_is_worse(metric, new, old, factor=1.0)


def asleep(*_: Any, **__: Any) -> tuple[bool, str]:
    return False, "fine"


gate_is_worse = gate.is_worse


@pytest.mark.parametrize("broken", [wrong_sign, always_lower, factor_only, significance_only, asleep])
def test_a_broken_comparison_is_caught(
    baseline: Baseline, broken: Callable[..., tuple[bool, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        (run(errors_test=force(80.0)), 0), (run(errors_test=force(115.0)), 1), (run(errors_test=force(115.0, 20.0)), 0),
        (run(errors_test=force(104.9, 0.01)), 0), (run(errors_test=force(104.9, 1e-9)), 0),
        (run(speed=Measured(values=(value(SPEED, 5e3, stderr=100.0),))), 1),
        (run(symmetry=Measured(values=(value(ROTATION, 5e-5, stderr=1e-6), value(PERMUTATION, 1e-9)))), 1),
    ]  # fmt: skip
    exact = replace(baseline, models={"m": {
        row: replace(entry, values=tuple(replace(number, stderr=0.0) for number in entry.values))
        for row, entry in baseline.models["m"].items()
    }})  # fmt: skip
    assert [code(results, exact) for results, _ in cases] == [expected for _, expected in cases]
    monkeypatch.setattr(gate, "is_worse", broken)
    assert [code(results, exact) for results, _ in cases] != [expected for _, expected in cases]


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
        (lambda text: text.replace('"schema": 1', '"schema": 99'), "schema 99, this version reads up to 1"),
        (lambda text: text.replace('"schema": 1', '"schema": "1"'), "no baseline"),
        (lambda text: text.replace('"split"', '"splitt"'), r"models.m.errors-test.split"),
        (lambda text: text.replace('"suite_version"', '"suit_version"'), "edited"),
        (lambda text: text.replace("100.0", '"a hundred"'), "edited"),
        (lambda text: text.replace("100.0", "NaN"), "NaN is not a JSON number"),
        (lambda text: text.replace("100.0", "1e999"), "finite"),
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
    assert "worse: errors-test force_rmse (baseline): 120 against 100 meV/Å: worse by 7.1 standard errors" in text
    assert text.splitlines()[-1] == "m does not pass: 1 worse or past a limit, 1 cannot be told."
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(gate.shown(found, every=True))
    shown = console.export_text()
    assert "[red]bug[/red]" in shown and "within at most 150" in shown
    document = json.loads(gate.as_json(found))
    assert (document["schema"], document["exit_code"], document["against"]) == (1, 2, "m")
    assert len(document["verdicts"]) == len(found.verdicts)
    assert all(
        set(verdict) >= {"row", "metric", "part", "test", "status", "says", "value"} for verdict in document["verdicts"]
    )
