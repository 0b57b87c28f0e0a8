"""How often the gate errs: what is simulated, and what is made of it."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlipbench import benchmarks
from mlipbench.core.measure import measure, squares
from mlipbench.core.model import Predictions
from mlipbench.core.suite import Row, Suite
from mlipbench.power import wrong
from mlipbench.power.alike import Kept, as_result, values_of
from mlipbench.power.curves import smallest, svg
from mlipbench.power.pairs import LAWS, Scatter, Share, judged, logarithms, moved, over_models, stopped

ROWS = tuple(Row(name=name, benchmark="energy_force_stress", data="d", split=name) for name in ("test", "hotter"))
SUITE = Suite(name="s", version="1", about="", rows=ROWS)
METRICS = benchmarks.about("energy_force_stress").metrics
MERITS = {metric.name: metric for metric in METRICS if metric.name in {"force_rmse", "energy_shape_rmse"}}
UNITS = [f"t{k:02d}" for k in range(16)]
NONE = dict.fromkeys(MERITS, 0.0)  # tolerances


def made(seed: int, factor: float = 1.0) -> list:
    """Return results of a model of two rows; units differ in difficulty, and models in chance."""
    out = []
    for number, row in enumerate(ROWS):
        difficulty = np.exp(0.5 * np.random.default_rng(number).standard_normal(len(UNITS)))
        rng = np.random.default_rng([number, seed])
        values = []
        for metric in MERITS.values():
            errors = factor * difficulty[:, None] * np.exp(0.03 * rng.standard_normal((len(UNITS), 1)))
            values.append(measure(metric, squares(np.repeat(errors, 5, axis=1)), UNITS, "root_mean"))
        out.append(as_result(row, values, METRICS, data_sha256="ab" * 32))
    return out


def nothing(results: list) -> dict:
    return {key: dict.fromkeys(own, 0.0) for key, own in logarithms(results).items()}


def test_a_model_that_is_worse_by_a_share_is_so_in_every_unit() -> None:
    model = made(0)
    worse = moved(model, nothing(model), lambda key: 0.1 if key == ("test", "force_rmse") else 0.0)
    for old, new in zip(model, worse, strict=True):
        for name, value in values_of(old).items():
            wanted = 1.1 if (old.row, name) == ("test", "force_rmse") else 1.0
            assert values_of(new)[name].value == pytest.approx(wanted * value.value, rel=1e-12)
    before, after = logarithms(model)["test", "force_rmse"], logarithms(worse)["test", "force_rmse"]
    assert [after[unit] - before[unit] for unit in UNITS] == pytest.approx([np.log(1.1)] * len(UNITS))


def test_scatter_has_no_mean_and_its_factors_are_shared_by_all_numbers_of_a_unit() -> None:
    models = [made(seed) for seed in range(6)]
    scatter = Scatter.of(models)
    assert len(scatter.residuals) == 3
    for residuals in scatter.residuals:
        for own in residuals.values():
            assert sum(own.values()) == pytest.approx(0.0, abs=1e-12)
    drawn = scatter.drawn(np.random.default_rng(3))
    (chosen,) = [
        one for one in scatter.residuals
        if abs(one["test", "force_rmse"]["t00"]) == pytest.approx(abs(drawn["test", "force_rmse"]["t00"]))
    ]  # fmt: skip
    ratio = {key: [drawn[key][unit] / chosen[key][unit] for unit in UNITS] for key in drawn}
    assert ratio["test", "force_rmse"] == pytest.approx(ratio["test", "energy_shape_rmse"])
    assert ratio["test", "force_rmse"] != pytest.approx(ratio["hotter", "force_rmse"])  # other units of the same names
    assert set(np.round(ratio["test", "force_rmse"], 9)) == {-1.0, 1.0}


@pytest.mark.parametrize("law", LAWS)
def test_factors_have_mean_0_and_variance_1(law: str) -> None:
    rng = np.random.default_rng(5)
    drawn = np.array([LAWS[law](rng) for _ in range(40_000)])
    assert abs(drawn.mean()) < 0.02
    assert drawn.var() == pytest.approx(1.0, abs=0.25)  # Student's t has no fourth moment


def test_equal_models_pass_and_worse_ones_are_named() -> None:
    model, scatter = made(0), Scatter.of([made(seed) for seed in range(6)])
    assert not stopped(judged(model, model, SUITE))
    assert not stopped(judged(model, model, SUITE, tolerances=NONE))
    rng = np.random.default_rng(0)
    twin = moved(model, scatter.drawn(rng), lambda _: 0.0)
    assert not stopped(judged(twin, model, SUITE))
    worse = moved(model, scatter.drawn(rng), lambda key: 0.3 if key == ("hotter", "force_rmse") else 0.0)
    assert stopped(judged(worse, model, SUITE)) == [("hotter", "force_rmse")]


def test_noise_is_told_from_tolerance() -> None:
    model, scatter = made(0), Scatter.of([made(seed) for seed in range(6)])
    little = moved(model, scatter.drawn(np.random.default_rng(1)), lambda _: 0.025)  # certain, and tolerated
    assert stopped(judged(little, model, SUITE, tolerances=NONE))
    assert not stopped(judged(little, model, SUITE))


def test_one_odd_model_makes_many_alarms_and_the_interval_knows() -> None:
    n = 24
    one_model, spread = np.zeros((n, n)), np.zeros((n, n))
    one_model[3] = 1.0
    one_model[3, 3] = 0.0
    spread[range(n - 1), range(1, n)] = 1.0  # as many alarms, each of another pair
    odd, even = over_models(one_model), over_models(spread)
    assert odd[0] == even[0] == pytest.approx(1 / n)
    assert odd[1] == 0.0 and odd[2] > 0.1  # that model may not have been among them
    assert odd[2] - odd[1] > 2.0 * (even[2] - even[1])
    assert over_models(np.zeros((n, n))) == (0.0, *Share(hits=0, trials=n // 2).interval)


def test_frames_are_chosen_without_return_or_as_a_bootstrap() -> None:
    some = Kept(share=0.9).draw(50, np.random.default_rng(0))
    assert len(some) == len(set(some)) == 45
    again = Kept(share=1.0).draw(50, np.random.default_rng(0))
    assert len(again) == 50 > len(set(again))


def test_smallest_regression_lies_between_points() -> None:
    sizes = (0.1, 0.2, 0.4)
    shares = [Share(hits=hits, trials=100) for hits in (20, 60, 100)]
    assert smallest(sizes, shares) == pytest.approx(0.3)
    assert smallest(sizes, shares, power=0.1) == pytest.approx(0.05)
    assert smallest(sizes, shares[:1] * 3) is None


def test_the_figure_is_svg_with_all_points() -> None:
    shares = [Share(hits=hits, trials=10) for hits in (1, 9)]
    root = ElementTree.fromstring(svg((0.1, 0.2), {"one": shares, "two": shares[::-1]}))  # noqa: S314, our own
    lines = [one for one in root if one.tag.endswith("polyline")]
    assert len(lines) == 6 + 2 * (2 + 1)  # grid; bars and a curve each
    assert {"one", "two"} <= {one.text for one in root}


def answers(frames: list[Atoms]) -> Predictions:
    n = len(frames)
    return Predictions(
        n_atoms=np.array([len(frame) for frame in frames]), energy=np.zeros(n),
        forces=np.zeros((sum(len(frame) for frame in frames), 3)), stress=np.ones((n, 3, 3)) * 0.01,
        has_stress=np.array([bool(frame.pbc.all()) for frame in frames]),
    )  # fmt: skip


def test_a_wrong_stress_is_the_stress_alone() -> None:
    frames = [bulk("Cu")]
    said = answers(frames)
    told = wrong.wrong_stress(frames, said)
    assert told.stress == pytest.approx(1.02 * said.stress)
    assert replace(told, stress=said.stress).energy == pytest.approx(said.energy)


def test_the_push_that_takes_attraction_away_is_one_function() -> None:
    frame = bulk("Cu", cubic=True) * 2
    frame.rattle(0.1, seed=1)
    energy, forces, stress = wrong._push(frame)
    assert energy > 0.0

    def moved_by(vector: np.ndarray) -> float:
        other = frame.copy()
        other.positions[3] += vector
        return wrong._push(other)[0]

    def strained(strain: np.ndarray) -> float:
        other = frame.copy()
        other.set_cell(other.cell @ (np.eye(3) + strain), scale_atoms=True)
        return wrong._push(other)[0]

    step, x, xy = 1e-4, np.array([1.0, 0.0, 0.0]), np.zeros((3, 3))
    assert (moved_by(-step * x) - moved_by(step * x)) / (2 * step) == pytest.approx(forces[3, 0], rel=1e-4)
    xy[0, 1] = xy[1, 0] = 0.5
    slope = (strained(step * xy) - strained(-step * xy)) / (2 * step)
    assert slope / frame.get_volume() == pytest.approx(0.5 * (stress[0, 1] + stress[1, 0]), rel=1e-3)
    xx = np.diag([1.0, 0.0, 0.0])
    slope = (strained(step * xx) - strained(-step * xx)) / (2 * step)
    assert slope / frame.get_volume() == pytest.approx(stress[0, 0], rel=1e-3)


def test_a_frame_without_cell_gets_no_stress() -> None:
    frames = [Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.0]]), bulk("Cu")]
    said = replace(answers(frames), stress=np.zeros((2, 3, 3)))
    told = wrong.no_attraction(frames, said)
    assert not told.stress[0].any()
    assert told.energy[0] == pytest.approx(wrong.PUSH_EV / 8)
    assert told.forces[:2, 2] == pytest.approx([
        -3 * wrong.PUSH_EV / wrong.REACH_A / 4,
        3 * wrong.PUSH_EV / wrong.REACH_A / 4,
    ])
