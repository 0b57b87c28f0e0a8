"""Do drawings show what the views hold?"""

from __future__ import annotations

import numpy as np
import pytest
from made_results import error_views

from mlipbench.core.view import Axis, Bars, Lines, Parity
from mlipbench.report.figures import figures, history_figure
from mlipbench.report.panels import COLOURS, colour_of, log_axis, on_axis
from mlipbench.report.parity import MAX_POINTS, families, thin

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
    assert first["xaxis"]["title"]["text"] == "reference (eV/Å)"
    assert figure.caption.startswith("Force: model against reference")


def test_an_exploded_prediction_does_not_squeeze_the_others() -> None:
    predicted = np.linspace(-1.0, 1.0, 50)
    predicted[7] = 1e6
    (figure,) = figures({"a": [parity(predicted)]}, colours={"a": "#000"})
    low, high = figure.panels[0].spec["layout"]["yaxis"]["range"]
    assert -2.0 < low < high < 2.0
    _, points, edge, _ = figure.panels[0].spec["data"]
    assert len(points["x"]) == 49 and "customdata" not in points
    assert edge["marker"]["symbol"] == ["triangle-up"]
    assert edge["customdata"] == [1e6] and low < edge["y"][0] < high
    assert "1 point lies outside the axes" in figure.caption


def grouped(names: list[str], *, shift: float = 0.1) -> Parity:
    reference = np.linspace(-1.0, 1.0, len(names))
    return Parity(title="E", axis=EV, reference=reference, predicted=reference + shift, group=tuple(names))


def test_all_panels_share_one_legend_and_its_numbers() -> None:
    (figure,) = figures({"a": [grouped(["x", "y"])], "b": [grouped(["y", "z"])]}, colours={"a": "#000", "b": "#111"})
    assert [entry.name for entry in figure.legend] == ["x", "y", "z", "largest errors"]
    for panel in figure.panels:
        assert not panel.spec["layout"]["showlegend"]
        for trace in panel.spec["data"][1:]:
            assert figure.legend[trace["meta"]].name == trace["name"]
            assert trace["marker"]["color"] == figure.legend[trace["meta"]].colour


def test_many_kinds_become_families() -> None:
    sizes = [f"{kind}_{n}{md}" for kind in ("cluster", "liquid") for n in (2, 3, 6, 12) for md in ("", "_gfn1md")]
    (figure,) = figures({"a": [grouped(["molecule_EC", *sizes])]}, colours={"a": "#000"})
    assert [entry.name for entry in figure.legend] == [
        "cluster", "cluster (GFN1 dynamics)", "liquid", "liquid (GFN1 dynamics)", "molecule", "largest errors",
    ]  # fmt: skip
    assert "one family" in figure.caption
    assert sum(len(trace["x"]) for trace in figure.panels[0].spec["data"][1:-1]) == 17


def test_few_kinds_keep_their_names_and_too_many_families_share_one() -> None:
    assert families(["liquid_3", "liquid_3_gfn1md"]) == {"liquid_3": "liquid_3", "liquid_3_gfn1md": "liquid_3_gfn1md"}
    names = [f"kind{letter}" for letter in "abcdefghijklmno"]
    called = families([*names, *names[:3]])
    assert len(set(called.values())) == len(COLOURS)
    assert called["kinda"] == "kinda" and called["kindo"] == "others"


def test_rounding_for_an_axis_is_finer_than_a_pixel() -> None:
    values = np.random.default_rng(0).uniform(-3.0, 3.0, 200)
    for scale in (1e-6, 1.0, 1e5):
        shown = np.array(on_axis(scale * values, -3.0 * scale, 3.0 * scale))
        assert np.abs(shown - scale * values).max() < 6.0 * scale / 10_000


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


def test_bars_with_many_labels_lie_down_and_take_the_titles_of_metrics() -> None:
    labels = tuple(f"part_{i}_force_rmse" for i in range(14))
    values = np.arange(1.0, 15.0)
    view = Bars(title="B", axis=EV, labels=labels, values=values, low=0.5 * values, high=2 * values)
    (figure,) = figures({"m": [view]}, colours={"m": "#123456"}, names={"part_3_force_rmse": "Part 3 <b>"})
    (trace,) = figure.panels[0].spec["data"]
    drawn = figure.panels[0].spec["layout"]
    assert trace["orientation"] == "h" and trace["x"] == values.tolist() and "error_x" in trace
    assert trace["y"][3] == "Part 3 &lt;b&gt;" and trace["y"][0] == labels[0]
    assert drawn["yaxis"]["autorange"] == "reversed" and drawn["height"] > 14 * 20
    assert [entry.name for entry in figure.legend] == ["m"]


def test_short_log_axes_have_ticks_within_decades_and_long_ones_have_not() -> None:
    assert log_axis("", 15.0, 700.0)["ticktext"] == ["20", "50", "100", "200", "500"]
    assert log_axis("", 1e-6, 10.0)["dtick"] == 1


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
