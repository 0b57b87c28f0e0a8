"""Does the leaderboard say the same in every form?"""

from __future__ import annotations

import csv
import io
import json

import pytest
from made_results import FORCE, HOSTILE, SUITE, Fake, result, value
from rich.console import Console

from mlipbench.core.metric import MetricValue
from mlipbench.core.result import Measured, Skipped
from mlipbench.report import table, verdicts, words


def board(finished: list[Fake]) -> table.Leaderboard:
    return table.leaderboard([job.result for job in finished], SUITE)


def test_the_best_comes_first(finished: list[Fake]) -> None:
    found = board(finished)
    assert found.models == ("ace-medium", "mace-ci", f"gaff2 {HOSTILE}")
    values = [found.scores[model].value for model in found.models]
    assert values == sorted(values, reverse=True)


def test_golden_records() -> None:
    hydrogen = value(FORCE, 90.0, part="element=H", n=1)
    low, high = pytest.approx(0.444, abs=2e-3), pytest.approx(0.556, abs=2e-3)
    results = [
        result("errors-test", "a", Measured(values=(value(FORCE, 110.0, stderr=5.0), hydrogen))),
        result("rigid-body", "a", Skipped(reason="no molecules")),
    ]  # fmt: skip
    found = table.records(table.leaderboard(results, SUITE))
    merit = (None, 0, "merit", None, None, "measured", "")
    assert [tuple(record.values()) for record in found[:4]] == [
        ("a", "", "score", "", "", 0.5, low, high, None, 1, None, None, "", 1, 1, "measured", ""),
        ("a", "errors-test", "force_rmse", "", "meV/Å", 110.0, 100.0, 120.0, 5.0, 12, *merit),
        ("a", "errors-test", "force_rmse", "element=H", "meV/Å", 90.0, None, None, None, 1, *merit),
        ("a", "errors-control", "", "", "", *[None] * 7, "", None, None, "absent", "there is no result in the store"),
    ]  # fmt: skip
    assert tuple(found[4].values())[-2:] == ("skipped", "no molecules")
    assert all(tuple(record) == table.COLUMNS for record in found)


def test_json_and_csv_hold_the_records(finished: list[Fake]) -> None:
    found = board(finished)
    document = json.loads(table.as_json(found))
    assert document["schema"] == table.SCHEMA
    assert document["records"] == table.records(found)
    assert [entry["model"] for entry in document["models"]] == list(found.models)
    lines = list(csv.DictReader(io.StringIO(table.as_csv(found))))
    assert len(lines) == len(document["records"])
    for line, record in zip(lines, document["records"], strict=True):
        assert line["model"] == record["model"]
        assert (float(line["value"]) if line["value"] else None) == record["value"]
        assert line["reason"] == record["reason"]


def test_a_number_that_is_not_finite_never_gets_into_a_file() -> None:
    crooked = value(FORCE, 1.0)
    object.__setattr__(crooked, "value", float("nan"))
    with pytest.raises(ValueError, match="Out of range"):
        table.as_json(table.leaderboard([result("errors-test", "a", Measured(values=(crooked,)))], SUITE))


def printed(found: table.Leaderboard, *, width: int) -> str:
    """Return what stands in a log, where the console thinks that it has 80 columns."""
    file = io.StringIO()
    Console(width=80, file=file).print(table.head(found, width=width), crop=False)
    return file.getvalue()


def test_head_for_the_terminal(finished: list[Fake]) -> None:
    text = printed(board(finished), width=140)
    assert "ace-medium" in text and "Force RMSE [meV/Å]" in text and "[/]" not in text
    for word in ("Failed", "Skipped", "Not run", "1 failed", "2 passed"):
        assert word in text


def test_head_is_as_narrow_as_asked_and_cuts_no_word(finished: list[Fake]) -> None:
    found = board(finished)
    for width in (60, 80, 100, 200):
        lines = printed(found, width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines[3:])  # the head may cut the name of a model
        assert [line.rstrip() for line in lines].count("errors-test") == 1
    assert "Stress RMSE" not in printed(found, width=100)  # two headline numbers per row


def test_head_of_many_models_names_how_many_more_there_are() -> None:
    results = [result("errors-test", f"model-{i}", Measured(values=(value(FORCE, 50.0 + i),))) for i in range(20)]
    text = printed(table.leaderboard(results, SUITE), width=100)
    assert text.count("model-") + int(text.split("%")[1].split("more")[0].split(";")[1]) == 20
    assert "19 more on the page" in printed(table.leaderboard(results, SUITE), width=1)


def test_nothing_measured_is_a_leaderboard_too() -> None:
    empty = table.leaderboard([], SUITE)
    assert empty.models == ()
    assert table.records(empty) == []
    assert json.loads(table.as_json(empty))["records"] == []
    Console(file=io.StringIO()).print(table.head(empty))


# --- words ------------------------------------------------------------------------------------------------------------


def test_verdicts_say_what_speaks_against_a_model_first(finished: list[Fake]) -> None:
    found = board(finished)
    bad = found.models[-1]
    text = verdicts.sentence(found, bad)
    assert text.startswith("Fails 1 deciding check (Rotation, forces).")
    assert "Failed on rigid-body, which counts as 0." in text
    assert "Past the suite's limit: errors-test Force RMSE." in text
    assert "3 of 4 accuracy rows (skipped: 1)" in text
    assert verdicts.tone(found, bad) == "bad"
    good = verdicts.sentence(found, "ace-medium")
    assert (
        good.startswith("Scores ")
        and "of 1 (good, place 1 of 3) over all 4 accuracy rows" in good
        and "est in 8 of 8" in good
    )


def test_one_model_alone_is_best_at_nothing() -> None:
    found = table.leaderboard([result("errors-test", "a", Measured(values=(value(FORCE, 110.0),)))], SUITE)
    text = verdicts.sentence(found, "a")
    assert "est in" not in text and "0.50 of 1" in text


def test_rows_measured_otherwise_are_called_incomparable() -> None:
    ok = Measured(values=(value(FORCE, 110.0),))
    same = [result("errors-test", "a", ok), result("errors-test", "b", ok)]
    assert verdicts.incomparable(table.leaderboard(same, SUITE)) == []
    other = [same[0], result("errors-test", "b", ok, parameters={"max_frames": 3}, data_sha256="00")]
    (warning,) = verdicts.incomparable(table.leaderboard(other, SUITE))
    assert warning == (
        "errors-test: not measured alike (the data and parameters differ), so compare only within: a | b."
    )


def test_another_level_of_theory_is_said() -> None:
    found = table.leaderboard([result("errors-test", "a", Measured(values=(value(FORCE, 1.0),)))], SUITE)
    assert verdicts.other_theory(found, {"a": "gfn1-XTB"}) == {}
    assert verdicts.other_theory(found, {"a": ""}) == {}
    assert "stands for PBE, the labels are GFN1-xTB" in verdicts.other_theory(found, {"a": "PBE"})["a"]


@pytest.mark.parametrize(
    ("number", "low", "high", "text", "spread"),
    [
        (82.134, 73.0, 91.4, "82.1", "± 9.2"),
        (104.2, 85.0, 125.0, "104", "± 20"),
        (83.3, 66.7, 104.1, "83", "+21 −17"),
        (0.18412, 0.159, 0.209, "0.184", "± 0.025"),
        (22222.0, 20800.0, 23600.0, f"22{words.NARROW_SPACE}200", "± 1400"),
        (3e-9, 1e-9, 5e-9, "3.0×10⁻⁹", "± 2.0×10⁻⁹"),
        (5.0, 5.0, 5.0, "5.00", "± 0"),
        (0.0, 0.0, 0.0, "0", "± 0"),
        (-3.21, -3.5, -2.9, "-3.21", "± 0.30"),
        (12.345, None, None, "12.3", ""),
    ],
)
def test_numbers_have_the_digits_their_interval_allows(
    number: float, low: float | None, high: float | None, text: str, spread: str
) -> None:
    stderr = None if low is None else 1.0
    found = MetricValue(metric="m", value=number, low=low, high=high, stderr=stderr, n=3)
    assert (words.measured(found), words.spread(found)) == (text, spread)
