"""Intervals hold the truth as often as they say, and the drawing that shows it draws what it says."""

from __future__ import annotations

import numpy as np
import pytest

from mlipbench.physics import statistics
from mlipbench.testing import coverage as module
from mlipbench.testing.coverage import (
    CORRELATIONS,
    KINDS,
    LAWS,
    RATE,
    Coverage,
    Kind,
    coverage,
    errors,
    main,
    mean_size,
    quantile,
    root_mean_square,
    share_below,
    trajectory_coverage,
)

N_DRAWS = 2000
OF = {kind.title: kind for kind in KINDS}


def check(found: Coverage, *, least: float = 0.93, most: float = 0.975) -> None:
    """Between 93 and 97.5 %, within three standard errors of the simulation; with one end only it may be more."""
    assert found.share is not None
    assert found.share >= least - 3.0 * np.sqrt(least * (1.0 - least) / N_DRAWS)
    highest = 1.0 if found.open_ended > 0.01 else most
    assert found.share <= highest + 3.0 * np.sqrt(most * (1.0 - most) / N_DRAWS)


@pytest.mark.parametrize("law", LAWS)
def test_truths_in_closed_form_are_those_of_the_errors(law: str) -> None:
    sizes = np.abs(errors(np.random.default_rng(0), law, 0.5, (1, 40_000, 20)))
    assert np.sqrt((sizes**2).mean()) == pytest.approx(root_mean_square(law), rel=0.05 if law == "t3" else 0.02)
    assert sizes.mean() == pytest.approx(mean_size(law), rel=0.01)
    for q in (0.5, 0.95):
        assert np.quantile(sizes, q) == pytest.approx(quantile(law, q), rel=0.02)
    assert (sizes < 1.0).mean() == pytest.approx(share_below(law, 1.0), abs=0.01)


def test_rows_of_a_unit_are_correlated_as_said() -> None:
    drawn = errors(np.random.default_rng(0), "Gauss", 0.5, (1, 20_000, 2))[0]
    assert np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] == pytest.approx(0.5, abs=0.03)
    apart = errors(np.random.default_rng(0), "t3", 0.0, (1, 20_000, 2))[0]
    assert np.corrcoef(np.abs(apart[:, 0]), np.abs(apart[:, 1]))[0, 1] == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.reducer != "share"], ids=lambda kind: kind.title)
def test_intervals_hold_the_truth(kind: Kind, law: str, correlation: float) -> None:
    check(coverage(kind, law, correlation, 12, n_draws=N_DRAWS))


@pytest.mark.parametrize("title", ["RMSE", "relative RMSE", "mean of sizes (MAE)"])
@pytest.mark.parametrize("n_units", [3, 30])
def test_so_do_those_of_few_units_and_of_many(title: str, n_units: int) -> None:
    check(coverage(OF[title], "lognormal", 0.5, n_units, n_draws=N_DRAWS))


def test_exact_intervals_are_no_narrower_than_they_say() -> None:
    check(coverage(OF["share"], "lognormal", 0.0, 12, n_draws=N_DRAWS), least=0.95, most=1.0)
    check(coverage(OF["share"], "lognormal", 0.0, 12, n_draws=N_DRAWS, n_rows=1), least=0.95, most=1.0)
    check(coverage(RATE, "Gauss", 0.0, 12, n_draws=N_DRAWS), least=0.95, most=1.0)


def test_quantiles_of_three_units_are_withheld() -> None:
    assert coverage(OF["median"], "Gauss", 0.0, 3, n_draws=20).share is None


def test_blocks_of_unnamed_frames_hold_what_single_frames_do_not() -> None:
    grouped, each = (trajectory_coverage(300, 20.0, grouped=how, n_draws=300) for how in (True, False))
    assert grouped.share is not None and each.share is not None
    assert grouped.share > 0.88
    assert each.share < 0.5


@pytest.mark.parametrize(
    ("title", "law", "name", "value"),
    [
        ("RMSE", "lognormal", "ARMS", {"root_mean": (1.0, 1.0)}),
        ("RMSE", "t3", "ARMS", {"root_mean": (0.9, 1.2)}),
        ("95th percentile", "lognormal", "QUANTILE_WIDTH", {"quantile_95": 0.7}),
        ("mean of either sign", "Gauss", "_student", lambda *_: 1.96),
    ],
)
def test_check_has_teeth(title: str, law: str, name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, name, value)
    with pytest.raises(AssertionError):
        check(coverage(OF[title], law, 0.5, 6, n_draws=N_DRAWS))


def test_rows_taken_for_units_are_found() -> None:
    """Rows that belong together, taken as independent, give intervals that are too narrow."""
    kind = OF["RMSE"]
    apart = Kind(
        title=kind.title, reducer=kind.reducer, truth=kind.truth,
        rows=lambda e, *_: np.stack([e**2, np.ones(e.shape)], axis=3).reshape(len(e), -1, 2),
    )  # fmt: skip
    with pytest.raises(AssertionError):
        check(coverage(apart, "lognormal", 0.5, 12, n_draws=N_DRAWS))


def test_command_prints_the_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "N_UNITS", (6,))
    main(["--draws", "10"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| kind | law | ρ | n = 6 |"
    assert sum(line.startswith("| RMSE |") for line in lines) == len(LAWS) * len(CORRELATIONS)
    assert sum(line.startswith("| rate |") for line in lines) == 1
    assert sum(line.startswith("| 1000 |") for line in lines) == 4
