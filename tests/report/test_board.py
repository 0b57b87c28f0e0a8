"""Which results end up in which cell?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_results import ENERGY, FORCE, SUITE, Fake, errors, provenance, result, trained, value

from mlipbench.core.result import Broken, Failed, Measured, Skipped
from mlipbench.core.suite import Row, Suite
from mlipbench.report.board import assemble

ONE = Measured(values=(value(FORCE, 100.0, stderr=3.0),))


def test_every_model_has_a_cell_in_every_row(finished: list[Fake]) -> None:
    board = assemble([job.result for job in finished], SUITE)
    assert set(board.cells) == {(model, row.name) for model in board.models for row in SUITE.rows}
    states = {cell.state for cell in board.cells.values()}
    assert states == {"measured", "failed", "skipped", "broken"}


def test_a_row_without_result_is_absent_and_says_so() -> None:
    board = assemble([result("errors-test", "a", ONE)], SUITE)
    cell = board.cell("a", "speed")
    assert (cell.state, cell.reason, cell.values) == ("absent", "there is no result in the store", ())


def test_a_failed_training_is_the_reason_why_rows_are_absent() -> None:
    failed = replace(trained("a"), outcome=Failed(reason="the loss is not finite in epoch 3"))
    board = assemble([failed], SUITE)
    assert "training ended as failed: the loss is not finite" in board.cell("a", "speed").reason


def test_the_newer_of_two_models_of_one_name_stays_and_takes_all_its_rows() -> None:
    later = provenance(started="2026-02-01T00:00:00Z")
    results = [
        result("errors-test", "a", ONE, model_key="old"),
        result("speed", "a", ONE, model_key="old"),
        result("errors-test", "a", ONE, model_key="new", job_id="n", provenance=later),
    ]
    board = assemble(results, SUITE)
    assert board.cell("a", "errors-test").results[0].model_key == "new"
    assert board.cell("a", "speed").state == "absent"  # the old model's speed is not the new one's
    assert board.superseded == 2
    assert assemble(results[::-1], SUITE).cells == board.cells


def test_rows_of_other_suites_and_tiers_are_left_out() -> None:
    suite = Suite(
        name="s", version="1", about="",
        rows=(Row(name="a", benchmark="speed", data="d"), Row(name="b", benchmark="speed", data="d", tiers=("full",))),
    )  # fmt: skip
    assert [line.name for line in assemble([result("errors-test", "m", ONE)], suite).lines] == ["a", "b"]
    assert [line.name for line in assemble([], suite, tier="quick").lines] == ["a"]


def seeds(*numbers: float, stderr: float | None = None) -> list:
    return [
        result(
            "errors-test", "a", Measured(values=(value(FORCE, x, stderr=stderr),)),
            job_id=f"s{i}", provenance=provenance(seed=i),
        )
        for i, x in enumerate(numbers)
    ]  # fmt: skip


def test_seeds_are_averaged_and_their_spread_is_in_the_interval() -> None:
    combined = assemble(seeds(10.0, 12.0, 14.0), SUITE).cell("a", "errors-test").value("force_rmse")
    assert combined is not None
    assert combined.value == pytest.approx(12.0)
    assert combined.stderr == pytest.approx(2.0 / math.sqrt(3.0))
    assert combined.high == pytest.approx(12.0 + 4.302652729911275 * 2.0 / math.sqrt(3.0))  # t, two degrees of freedom


def test_averaging_seeds_does_not_shrink_the_part_that_they_share() -> None:
    combined = assemble(seeds(10.0, 10.0, stderr=3.0), SUITE).cell("a", "errors-test").value("force_rmse")
    assert combined is not None
    assert combined.stderr == pytest.approx(3.0)
    assert combined.n == 12


def test_the_worst_ending_of_the_seeds_rules() -> None:
    results = seeds(10.0, 12.0, 14.0, 16.0)
    for i, outcome in enumerate((Skipped(reason="x"), Failed(reason="y"), Broken(reason="z"))):
        results[i] = replace(results[i], outcome=outcome)
        cell = assemble(results, SUITE).cell("a", "errors-test")
        assert cell.state == outcome.outcome
        assert cell.reason == f"seed {i}: {outcome.reason}"


def test_conditions_differ_when_data_parameters_or_versions_do() -> None:
    def conditions(**changed: object) -> str:
        return assemble([result("errors-test", "a", ONE, **changed)], SUITE).cell("a", "errors-test").conditions

    same = conditions()
    assert same == conditions(model_key="another", job_id="another")
    for changed in (
        {"data_sha256": "0"},
        {"split": "x"},
        {"parameters": {}},
        {"score_version": 2},
        {"observe_version": 2},
    ):
        assert conditions(**changed) != same


def test_headline_falls_back_to_all_metrics() -> None:
    line = assemble([result("symmetry", "a", errors(1.0))], SUITE).lines[4]
    assert [metric.name for metric in line.headline] == ["rotation_force", "permutation_energy"]
    first = assemble([result("errors-test", "a", errors(1.0))], SUITE).lines[0]
    assert ENERGY in first.headline
    assert len(first.headline) == 3
    assert np.isfinite([metric.good for metric in first.metrics]).all()
