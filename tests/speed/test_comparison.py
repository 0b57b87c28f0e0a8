"""Bars, curves and what is written of them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.speed.comparison import Absent, Comparison, Curve, in_turn
from mlipbench.speed.page import page, record, write


def comparison(*, ratio=2.0, bar="", peer: float | None = 1.0, name="ours, theirs"):
    return Comparison(name=name, ours=2.0, peer=peer, ratio=ratio, bar=bar, unit="s")


@pytest.mark.parametrize(
    ("ratio", "bar", "verdict"),
    [
        (10.0, ">= 10", "met"),
        (9.99, ">= 10", "MISSED"),
        (0.2, "<= 0.2", "met"),
        (0.21, "<= 0.2", "MISSED"),
        (5.0, "", ""),
    ],
)
def test_a_bar_is_met_on_its_right_side(ratio, bar, verdict):
    one = comparison(ratio=ratio, bar=bar)
    assert one.verdict == verdict
    assert one.is_met == (verdict != "MISSED")
    assert not verdict or verdict in one.text


def test_what_was_not_measured_is_never_met():
    one = Absent(name="box: ace, gap", reason="gap is not installed", bar=">= 100")
    assert "NOT MEASURED" in one.text
    assert "not installed" in one.text
    assert "met" not in one.text


@given(
    slope=st.floats(-3.0, 4.0), factor=st.floats(1e-6, 1e6),
    x=st.lists(st.floats(1e-2, 1e4), min_size=3, max_size=8, unique_by=lambda value: round(math.log(value), 1)),
)  # fmt: skip
def test_the_slope_of_a_power_law_is_its_exponent(slope, factor, x):
    curve = Curve(stage="s", variable="n", x=tuple(x), y=tuple(factor * value**slope for value in x), unit="s")
    assert curve.slope == pytest.approx(slope, abs=1e-6)


def test_calls_are_timed_in_turn_and_the_first_round_does_not_count():
    called = []
    times = iter([0.0, 0.0, *[t for pair in ((1.0, 5.0), (3.0, 6.0), (2.0, 7.0)) for d in pair for t in (0.0, d)]])
    found = in_turn(lambda: called.append("a"), lambda: called.append("b"), repeats=3, clock=lambda: next(times))
    assert called == ["a", "b"] * 4
    assert found == (2.0, 6.0)


FOUND = (
    comparison(ratio=9.0, bar=">= 10", name="<script>alert(1)</script>"),
    comparison(peer=None, bar="<= 20"),
    Absent(name="<b>box</b>", reason="not <i>installed</i>", bar=">= 100"),
    Curve(stage="assembly<br>", variable="frames & more", x=(1.0, 2.0, 4.0), y=(1.0, 2.1, 3.9), unit="s"),
)


def test_the_json_file_is_what_was_found(tmp_path):
    json_path, html_path = write(FOUND, tmp_path / "new")
    read = json.loads(json_path.read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(record(FOUND)))
    assert read["schema"] == 2
    first = read["comparisons"][0]
    assert {"name", "ours", "peer", "ratio", "bar", "unit", "threads", "device", "host"} <= set(first)
    assert [one["is_met"] for one in read["comparisons"]] == [False, True]
    assert read["comparisons"][1]["peer"] is None
    assert read["absent"][0]["reason"] == "not <i>installed</i>"
    assert read["growth"][0]["slope"] == pytest.approx(1.0, abs=0.05)
    assert html_path.read_text(encoding="utf-8") == page(FOUND)


def test_the_page_escapes_names_and_loads_nothing():
    text = page(FOUND)
    head = text[: text.index("<h2>")]
    assert "<script" not in head
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in head
    assert "<i>installed" not in head
    assert "MISSED" in head
    assert "not measured" in head
    assert "assembly<br>" not in text
    assert 'src="http' not in text
    assert "plotly" not in page(FOUND[:2])


def test_nothing_that_is_not_a_number_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write([comparison(ratio=math.nan)], tmp_path)
