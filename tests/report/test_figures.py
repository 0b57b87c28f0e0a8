"""Do drawings show what the views hold?"""

from __future__ import annotations

import numpy as np
import pytest
from made_results import error_views

from mlipbench.core.view import Axis, Bars, Lines, Parity
from mlipbench.report.figures import MAX_POINTS, colour_of, figures, history_figure, thin

EV = Axis(quantity="force", unit="eV/Å")


def parity(predicted: np.ndarray, reference: np.ndarray | None = None) -> Parity:
    reference = np.linspace(-1.0, 1.0, len(predicted)) if reference is None else reference
    return Parity(title="Forces", axis=EV, reference=reference, predicted=predicted)


def test_plotly_accepts_every_specification() -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    views = {"a": error_views(1.0, 1), "<b>": error_views(2.0, 2)}
    drawn = figures(views, colours=colour_of(list(views)))
    history = history_figure("h", [{"epoch": float(i), "valid_loss": 1.0 / (i + 1)} for i in range(5)])
    assert [figure.title for figure in drawn] == [
        "Forces",
        "Energies",
        "Force RMSE by element",
        "Error along the distance",
    ]
    for figure in (*drawn, history):
        for panel in figure.panels:
            graph_objects.Figure(panel.spec)  # raises on a property that does not exist


def test_parity_panels_share_their_axes() -> None:
    (figure,) = figures(
        {"a": [parity(np.zeros(50))], "b": [parity(np.linspace(-1.2, 1.2, 50))]}, colours={"a": "#000", "b": "#111"}
    )
    first, second = (panel.spec["layout"] for panel in figure.panels)
    assert first["xaxis"]["range"] == first["yaxis"]["range"] == second["xaxis"]["range"] == second["yaxis"]["range"]
    assert first["xaxis"]["title"]["text"] == "reference force (eV/Å)"


def test_an_exploded_prediction_does_not_squeeze_the_others() -> None:
    predicted = np.linspace(-1.0, 1.0, 50)
    predicted[7] = 1e6
    (figure,) = figures({"a": [parity(predicted)]}, colours={"a": "#000"})
    low, high = figure.panels[0].spec["layout"]["yaxis"]["range"]
    assert -2.0 < low < high < 2.0
    points = figure.panels[0].spec["data"][1]
    assert points["marker"]["symbol"][7] == "triangle-up"
    assert points["customdata"][7] == 1e6 and points["y"][7] < high
    assert "1 point lies outside the axes" in figure.caption


def test_thinning_keeps_the_worst_points() -> None:
    error = np.full(20_000, 0.01)
    error[[3, 777, 19_998]] = 5.0
    chosen = thin(error)
    assert len(chosen) <= MAX_POINTS
    assert {3, 777, 19_998} <= set(chosen.tolist())
    assert np.array_equal(thin(error[:100]), np.arange(100))


def test_bars_have_lopsided_whiskers_and_no_negative_ones() -> None:
    view = Bars(
        title="B",
        axis=EV,
        labels=("x", "y"),
        values=np.array([2.0, 3.0]),
        low=np.array([1.5, 3.0]),
        high=np.array([4.0, 3.0]),
    )
    (figure,) = figures({"m": [view]}, colours={"m": "#123456"})
    (trace,) = figure.panels[0].spec["data"]
    assert trace["error_y"]["array"] == [2.0, 0.0] and trace["error_y"]["arrayminus"] == [0.5, 0.0]
    assert trace["marker"]["color"] == "#123456"


def test_many_curves_get_a_panel_per_model_and_single_ones_share_one() -> None:
    x = np.arange(3.0)
    one = Lines(title="L", x_axis=EV, y_axis=EV, names=("a",), x=x, y=x[None])
    two = Lines(title="L", x_axis=EV, y_axis=EV, names=("a", "b"), x=x, y=np.stack([x, 5 * x]))
    colours = {"m": "#000", "n": "#111"}
    (shared,) = figures({"m": [one], "n": [one]}, colours=colours)
    (apart,) = figures({"m": [one], "n": [two]}, colours=colours)
    assert [panel.model for panel in shared.panels] == [""]
    assert [panel.model for panel in apart.panels] == ["m", "n"]
    assert apart.panels[0].spec["layout"]["yaxis"]["range"] == apart.panels[1].spec["layout"]["yaxis"]["range"]


def test_empty_views_draw_nothing() -> None:
    nothing = np.zeros(0)
    views = {"m": [
        Parity(title="P", axis=EV, reference=nothing, predicted=nothing),
        Bars(title="B", axis=EV, labels=(), values=nothing, low=nothing, high=nothing),
        Lines(title="L", x_axis=EV, y_axis=EV, names=(), x=nothing, y=np.zeros((0, 0))),
    ]}  # fmt: skip
    assert figures(views, colours={"m": "#000"}) == ()


def test_colours_do_not_depend_on_the_order() -> None:
    assert colour_of(["b", "a"]) == colour_of(["a", "b"])


def test_history_draws_errors_only_and_needs_two_points() -> None:
    figure = history_figure("h", [{"epoch": 0.0, "valid_rmse": 3.0, "seconds": 1.0}, {"epoch": 1.0, "valid_rmse": 2.0}])
    assert [trace["name"] for trace in figure.panels[0].spec["data"]] == ["valid_rmse"]
    assert history_figure("h", [{"epoch": 0.0, "valid_rmse": 3.0}]).panels == ()
