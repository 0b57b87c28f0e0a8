"""Barriers that are known in closed form, and models that lose a path on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.mep.neb import ImprovedTangentMethod
from bridge_paths import BRIDGES, Bridge, BridgeCalculator, changed, data, model

from mlipbench.benchmarks.reaction_path import (
    BAND_MOVING,
    ELSEWHERE,
    ENDS_MOVING,
    FAILED,
    METRICS,
    NOT_COVERED,
    ReactionPaths,
)
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue, score
from mlipbench.core.model import Float, Model
from mlipbench.core.policy import counted, row_score
from mlipbench.core.view import Bars, Lines
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.testing.benchmarks import check_benchmark

MADE = ReactionPaths()
TIGHT = replace(MADE, largest_force_eV_A=1e-3)
Answer = tuple[float, Float]
near = pytest.approx


@pytest.fixture(scope="module")
def paths() -> Dataset:
    return data()


def values(made: ReactionPaths, wanted: Model, given: Dataset, context: Context) -> dict[tuple[str, str], MetricValue]:
    return {(v.metric, v.part): v for v in made.score(made.observe(wanted, given, context), given)}


def measured(
    wanted: Model, given: Dataset, context: Context, made: ReactionPaths = TIGHT
) -> dict[tuple[str, str], float]:
    return {key: value.value for key, value in values(made, wanted, given, context).items()}


def check_right(wanted: Model, given: Dataset, context: Context, made: ReactionPaths = MADE) -> None:
    found = measured(wanted, given, context, made)
    assert {name for name, _ in found} == {metric.name for metric in METRICS}
    for metric in METRICS:
        for name, part in found:
            if name == metric.name:
                assert score(metric, found[name, part]) == 1.0, (name, part, found[name, part])


def milli(what: str) -> Float:
    return 1000.0 * np.array([getattr(bridge, what) for bridge in BRIDGES.values()])


def test_the_bridges_are_what_they_say() -> None:
    rng, step = np.random.default_rng(0), 1e-5
    for name, bridge in BRIDGES.items():
        start = bridge.frame(name, 0.1).positions + rng.normal(scale=0.1, size=(3, 3))
        for k in range(9):
            moved = [start.copy(), start.copy()]
            moved[0].ravel()[k] += step
            moved[1].ravel()[k] -= step
            slope = (bridge.answer(moved[0])[0] - bridge.answer(moved[1])[0]) / (2 * step)
            assert -bridge.answer(start)[1].ravel()[k] == near(slope, abs=1e-6)
        for u in (-bridge.b_A, bridge.saddle_A, bridge.b_A):
            assert np.abs(bridge.answer(bridge.frame(name, u).positions)[1]).max() < 1e-12


class Uphill(BridgeCalculator):
    """Forces of the wrong sign."""

    def answer(self, atoms: Atoms) -> Answer:
        energy, forces = super().answer(atoms)
        return energy, -forces


class Bulge(BridgeCalculator):
    """A hill on the reference's path, with a way around it."""

    def answer(self, atoms: Atoms) -> Answer:
        energy, forces = super().answer(atoms)
        away = atoms.positions[2] - 0.5 * (atoms.positions[0] + atoms.positions[1])
        hill = 0.3 * np.exp(-(away @ away) / 0.04)
        push = 2.0 / 0.04 * hill * away
        return energy + hill, forces + np.array([-0.5 * push, -0.5 * push, push])


def test_the_reference_itself_is_right(paths: Dataset, context: Context) -> None:
    check_right(model(), paths, context)
    check_right(changed(shift_eV=7.0), paths, context)


@pytest.mark.parametrize(
    "wrong",
    [
        changed(scale=1.2), changed(c_eV_A3=1.0), changed(b_A=0.45), changed(d_A=3.0), model(Uphill()), model(Bulge()),
    ],
)  # fmt: skip
def test_the_check_has_teeth(wrong: Model, paths: Dataset, context: Context) -> None:
    with pytest.raises(AssertionError):
        check_right(wrong, paths, context)


def test_a_wrong_tangent_is_seen(paths: Dataset, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across the path nothing holds the images up, and the climbing one is pushed off."""
    right = ImprovedTangentMethod.get_tangent

    def across(self: Any, *given: Any) -> Float:
        along = right(self, *given)
        return along[:, [1, 2, 0]] * [1.0, -1.0, 1.0]

    made, wider = replace(MADE, most_steps=60), changed(b_A=0.41)
    assert measured(wider, paths, context, made)["not_converged", ""] == 0.0
    monkeypatch.setattr(ImprovedTangentMethod, "get_tangent", across)
    with pytest.raises(AssertionError):
        check_right(model(), paths, context, made)
    assert measured(wider, paths, context, made)["not_converged", ""] == 1.0


def test_energies_a_tenth_too_large(paths: Dataset, context: Context) -> None:
    """Barriers and reaction energies are a tenth too large, and all places the same."""
    found = measured(changed(scale=1.1), paths, context)
    barrier, reaction = milli("barrier_eV"), milli("reaction_energy_eV")
    assert found["fixed_barrier_mae", ""] == near(0.1 * barrier.mean())
    assert found["barrier_mae", ""] == near(0.1 * barrier.mean(), abs=1e-3)
    assert found["barrier_bias", ""] == near(0.1 * barrier.mean(), abs=1e-3)
    assert found["reaction_energy_mae", ""] == near(0.1 * np.abs(reaction).mean(), abs=1e-3)
    assert found["barrier_mae", "config_type=symmetric"] == near(0.1 * barrier[0], abs=1e-3)
    assert found["barrier_mae", "config_type=tilted"] == near(0.1 * barrier[1:].mean(), abs=1e-3)
    later = np.concatenate([k + np.arange(1, 7) for k in (0, 7, 14)])
    along = 1000.0 * (paths.energy[later] - np.repeat(paths.energy[[0, 7, 14]], 6))
    assert found["path_rmse", ""] == near(0.1 * np.sqrt((along**2).mean()))
    assert found["path_force_rmse", ""] == near(100.0 * np.sqrt((paths.forces**2).mean()))
    assert found["saddle_rmsd", ""] < 1e-3
    assert found["not_converged", ""] == 0.0


def test_errors_of_both_signs_make_no_bias(paths: Dataset, context: Context) -> None:
    pair = paths.take(range(14))
    share = BRIDGES["O"].barrier_eV / BRIDGES["F"].barrier_eV
    scales = {"O": 1.1, "F": 1.0 - 0.1 * share}
    wrong = model(BridgeCalculator({name: replace(BRIDGES[name], scale=scale) for name, scale in scales.items()}))
    found = measured(wrong, pair, context)
    assert found["barrier_mae", ""] == near(100.0 * BRIDGES["O"].barrier_eV, abs=1e-2)
    assert found["barrier_bias", ""] < 1e-2
    views = {view.title: view for view in TIGHT.views(TIGHT.observe(wrong, pair, context), pair)}
    signed = views["Barrier errors of own paths"]
    assert isinstance(signed, Bars)
    assert signed.labels == ("O-H-O", "F-H-F")
    assert np.sign(signed.values).tolist() == [1.0, -1.0]


def test_a_saddle_elsewhere(context: Context) -> None:
    """Only the hydrogen atom moves, by δ: after superposition √(2)/3 δ root mean square over three atoms."""
    given = data(["O"], n_each_side=4)
    tilted = replace(BRIDGES["O"], c_eV_A3=1.5)
    found = measured(model(BridgeCalculator({"O": tilted})), given, context)
    assert found["saddle_rmsd", ""] == near(tilted.saddle_A * 2**0.5 / 3.0, abs=1e-3)
    assert found["barrier_mae", ""] == near(1000.0 * (tilted.barrier_eV - BRIDGES["O"].barrier_eV), abs=1e-2)
    assert found["reaction_energy_mae", ""] == near(1000.0 * tilted.reaction_energy_eV, abs=1e-2)
    fixed = tilted.along(0.0) - tilted.along(-tilted.b_A) - BRIDGES["O"].barrier_eV
    assert found["fixed_barrier_mae", ""] == near(1000.0 * fixed)
    assert found["fixed_barrier_mae", ""] < found["barrier_mae", ""]


def test_end_points_are_the_models_own(context: Context) -> None:
    given = data(["O"])
    wider = replace(BRIDGES["O"], b_A=0.44)
    found = measured(model(BridgeCalculator({"O": wider})), given, context)
    assert found["barrier_mae", ""] == near(1000.0 * abs(wider.barrier_eV - BRIDGES["O"].barrier_eV), abs=1e-2)
    fixed = wider.along(0.0) - wider.along(-BRIDGES["O"].b_A) - BRIDGES["O"].barrier_eV
    assert found["fixed_barrier_mae", ""] == near(1000.0 * abs(fixed))


def test_the_band_finds_a_way_around_a_hill(context: Context) -> None:
    """At the reference's images the hill counts in full; a band a little off the line slides down beside it."""
    given = data(["O"])
    straight = measured(model(Bulge()), given, context)
    hill = 300.0 * (1.0 - np.exp(-(BRIDGES["O"].b_A ** 2) / 0.04))
    assert straight["fixed_barrier_mae", ""] == near(hill)
    assert straight["barrier_mae", ""] > hill  # nothing pushes it off the line
    frames = [frame.copy() for frame in given.frames]
    for frame in frames[1:-1]:
        frame.positions[2] += [0.02, 0.04, 0.0]
    found = measured(model(Bulge()), replace(given, frames=tuple(frames)), context, replace(TIGHT, most_steps=2000))
    assert found["not_converged", ""] == 0.0
    assert found["barrier_mae", ""] < 0.9 * hill
    assert found["saddle_rmsd", ""] > 0.05


class OneWell(BridgeCalculator):
    """The hydrogen atom of O–H–O wants to be in the middle, or beside one of the two."""

    wanted_A = 0.0

    def answer(self, atoms: Atoms) -> Answer:
        if atoms.symbols[0] != "O":
            return super().answer(atoms)
        bridge = replace(BRIDGES["O"], a_eV_A4=0.0)
        energy, forces = bridge.answer(atoms.positions)
        arm = atoms.positions[1] - atoms.positions[0]
        axis = arm / np.linalg.norm(arm)
        away = atoms.positions[2] - 0.5 * (atoms.positions[0] + atoms.positions[1])
        off = away @ axis - self.wanted_A
        across = (away - (away @ axis) * axis) / np.linalg.norm(arm)
        pull = -8.0 * off * axis
        return energy + 4.0 * off**2, forces + np.array([
            -0.5 * pull + 8.0 * off * across,
            -0.5 * pull - 8.0 * off * across,
            pull,
        ])


def test_a_model_without_a_barrier_has_one_of_zero(context: Context) -> None:
    found = measured(model(OneWell()), data(["O"]), context)
    assert found["not_converged", ""] == 0.0
    assert found["barrier_mae", ""] == near(1000.0 * BRIDGES["O"].barrier_eV, abs=0.1)


class Other(OneWell):
    wanted_A = 0.4


class NeverRests(BridgeCalculator):
    """O–H–O is pushed on for ever."""

    def answer(self, atoms: Atoms) -> Answer:
        energy, forces = super().answer(atoms)
        return energy, forces + (0.5 if atoms.symbols[0] == "O" else 0.0)


class Twists(BridgeCalculator):
    """Between the minima of O–H–O, forces turn the hydrogen atom about the line, and have no energy."""

    def answer(self, atoms: Atoms) -> Answer:
        energy, forces = super().answer(atoms)
        if atoms.symbols[0] == "O":
            arm = atoms.positions[1] - atoms.positions[0]
            away = atoms.positions[2] - 0.5 * (atoms.positions[0] + atoms.positions[1])
            if abs(away @ arm) / np.linalg.norm(arm) < 0.3:
                across = np.cross(arm, [0.0, 0.0, 1.0])
                forces = forces + 3.0 * np.array([0.0 * across, 0.0 * across, np.cross(arm, away) + across])
        return energy, forces


class Raises(BridgeCalculator):
    """Fails on O–H–O."""

    def answer(self, atoms: Atoms) -> Answer:
        if atoms.symbols[0] == "O":
            raise RuntimeError("no convergence")
        return super().answer(atoms)


class RaisesNearby(BridgeCalculator):
    """Answers for O–H–O at the reference's images alone, and pulls the band away from there."""

    known = tuple(frame.positions for frame in data(["O"]).frames)

    def answer(self, atoms: Atoms) -> Answer:
        energy, forces = super().answer(atoms)
        if atoms.symbols[0] == "O":
            if not any(np.array_equal(atoms.positions, one) for one in self.known):
                raise RuntimeError("no convergence")
            forces = forces + np.array([[0.1, 0, 0], [0, 0, 0], [-0.1, 0, 0]])
        return energy, forces


LOST: dict[int, list[Callable[[], BridgeCalculator]]] = {
    ENDS_MOVING: [NeverRests],
    ELSEWHERE: [Other],
    BAND_MOVING: [Twists],
    FAILED: [RaisesNearby],
}


@pytest.mark.parametrize(("reason", "kind"), [(reason, kind) for reason, kinds in LOST.items() for kind in kinds])
def test_one_path_is_lost_and_the_others_go_on(
    reason: int, kind: Callable[[], BridgeCalculator], paths: Dataset, context: Context
) -> None:
    made = replace(MADE, most_steps=60, most_end_steps=300)
    seen = made.observe(model(kind()), paths, context)
    assert seen["reason"].tolist() == [reason, 0, 0]
    assert seen["has_points"].all()
    found = {(v.metric, v.part): v for v in made.score(seen, paths)}
    assert found["not_converged", ""].value == near(1.0 / 3.0)
    assert found["not_converged", ""].n == 3
    assert found["barrier_mae", ""].n == 2
    assert found["barrier_mae", ""].value < 1.0
    assert found["fixed_barrier_mae", ""].n == found["path_rmse", ""].n == found["path_force_rmse", ""].n == 3
    assert ("barrier_mae", "config_type=symmetric") not in found
    first, *_, left_out = made.views(seen, paths)
    assert isinstance(first, Lines) and len(first.names) == 2
    assert isinstance(left_out, Bars)
    assert left_out.values.tolist() == [2.0, 1.0]
    assert "O-H-O" in left_out.labels[1]


def test_a_path_without_answers_is_left_out_altogether(paths: Dataset, context: Context) -> None:
    for lost, reason in ((model(Raises()), FAILED), (model(elements=("F", "N", "H")), NOT_COVERED)):
        seen = MADE.observe(lost, paths, context)
        assert seen["reason"].tolist() == [reason, 0, 0]
        assert seen["has_points"].tolist() == [False, True, True]
        found = {(v.metric, v.part): v for v in MADE.score(seen, paths)}
        assert found["path_rmse", ""].n == 2 and found["path_rmse", ""].value < 1e-9
        assert found["not_converged", ""].n == (3 if reason == FAILED else 2)
        assert len([view for view in MADE.views(seen, paths) if isinstance(view, Lines)]) == 2


def test_lost_paths_are_named_and_cost(paths: Dataset, context: Context) -> None:
    """Of the numbers that a path is missing in: of its own band, or all."""
    names = paths.trajectory[0], len(set(paths.trajectory))
    whole = list(values(MADE, changed(scale=1.02), paths, context).values())
    best = row_score(METRICS, whole, MADE.expects(paths))
    assert best is not None and best > 0.9
    for kind, fixed in ((RaisesNearby(), ()), (Raises(), (names[0],))):
        for elements in (None, ("O", "H", "F", "N")):
            found = values(MADE, model(kind, elements=elements), paths, context)
            for name in ("barrier_mae", "reaction_energy_mae", "saddle_rmsd"):
                assert (found[name, ""].failed, found[name, ""].n_all) == ((names[0],), names[1])
            assert found["path_rmse", ""].failed == found["path_force_rmse", ""].failed == fixed
            reached = row_score(METRICS, list(found.values()), MADE.expects(paths))
            assert reached is not None and reached < 0.9


def test_a_path_that_is_not_covered_is_only_counted(paths: Dataset, context: Context) -> None:
    found = values(MADE, model(elements=("F", "N", "H")), paths, context)
    assert (found["barrier_mae", ""].failed, found["barrier_mae", ""].n_all, found["barrier_mae", ""].n) == ((), 3, 2)


def test_no_barrier_at_all_scores_nothing(paths: Dataset, context: Context) -> None:
    """No forces and a constant energy: nothing moves, and every error is the reference's own number."""
    found = values(MADE, model(Flat()), paths, context)
    assert row_score(METRICS, list(found.values()), MADE.expects(paths)) == near(0.0, abs=1e-12)
    heights = np.minimum(milli("barrier_eV"), 500.0)
    assert found["barrier_mae", ""].zero == near(float(heights.mean()), rel=1e-6)
    for name in ("path_rmse", "path_force_rmse", "barrier_mae", "reaction_energy_mae"):
        metric = next(metric for metric in METRICS if metric.name == name)
        assert found[name, ""].zero == near(counted(metric, found[name, ""]).value)


class Flat(BridgeCalculator):
    def answer(self, atoms: Atoms) -> Answer:
        return 0.0, np.zeros((len(atoms), 3))


def test_only_single_points_are_left(context: Context) -> None:
    """Too few steps are no failure of the row; what needs no band stays."""
    given = data(["O"])
    for made, reason in (
        (replace(MADE, most_steps=1), BAND_MOVING),
        (replace(MADE, most_end_steps=1), ENDS_MOVING),
    ):
        seen = made.observe(changed(c_eV_A3=1.5, b_A=0.35), given, context)
        assert seen["reason"].tolist() == [reason]
        names = {value.metric for value in made.score(seen, given)}
        assert names == {"path_rmse", "path_force_rmse", "fixed_barrier_mae", "not_converged"}
        assert [view.title for view in made.views(seen, given)][-1] == "Paths"


def test_no_path_at_all(paths: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="does not cover"):
        MADE.observe(model(elements=("Li",)), paths, context)
    with pytest.raises(ModelFailure, match="no convergence"):
        MADE.observe(model(Raises()), data(["O"]), context)
    with pytest.raises(ModelFailure, match="no convergence"):
        MADE.observe(model(Raises(), elements=("O", "H")), paths, context)


def test_one_question_a_step(paths: Dataset, context: Context) -> None:
    seen = MADE.observe(changed(c_eV_A3=1.5), paths, context)
    assert (seen["n_steps"] > 4).all()
    np.testing.assert_array_equal(seen["n_calls"], seen["n_steps"] + 1)
    steps = {v.metric: v.value for v in MADE.score(seen, paths) if not v.part}["steps"]
    assert steps == near(seen["n_steps"].mean())


def test_in_a_cell_nothing_is_turned(context: Context) -> None:
    given = data(["O"], n_each_side=4, cell_A=12.0)
    tilted = replace(BRIDGES["O"], c_eV_A3=1.5)
    found = measured(model(BridgeCalculator({"O": tilted})), given, context)
    assert found["saddle_rmsd", ""] == near(tilted.saddle_A * 2**0.5 / 3.0, abs=1e-3)


def test_figures_show_the_path(paths: Dataset, context: Context) -> None:
    first, second, third, fixed, own = MADE.views(MADE.observe(changed(scale=1.1), paths, context), paths)
    for view, bridge in zip((first, second, third), BRIDGES.values(), strict=True):
        assert isinstance(view, Lines)
        assert view.names[0] == "reference" and len(view.names) == 3
        assert view.y[0].max() == near(1000.0 * bridge.barrier_eV)
        np.testing.assert_allclose(view.y[1], 1.1 * view.y[0], atol=1e-9)
        np.testing.assert_allclose(view.y[2], 1.1 * view.y[0], atol=1.0)
    assert isinstance(fixed, Bars) and isinstance(own, Bars)
    np.testing.assert_allclose(fixed.values, 0.1 * milli("barrier_eV"))
    np.testing.assert_allclose(own.values, 0.1 * milli("barrier_eV"), atol=0.1)


def test_data_must_be_paths(paths: Dataset, context: Context) -> None:
    uphill = paths.take(range(4))
    backwards = paths.take([3, 2, 1, 0, 4])
    loose = replace(paths, forces=paths.forces + 0.2)
    mixed = replace(paths.take(range(10)), trajectory=("one",) * 10)
    for given, told in (
        (uphill, "an end point is its highest frame"),
        (backwards, "an end point is its highest frame"),
        (mixed, "image 7 has other atoms"),
    ):
        with pytest.raises(BadInput, match=told):
            MADE.observe(model(), given, context)
    for other in (paths.take([0, 3]), loose):
        with pytest.raises(NotApplicable, match="holds no reaction path"):
            MADE.observe(model(), other, context)


@pytest.mark.parametrize("wrong", [{"largest_force_eV_A": 0.0}, {"most_steps": 0}, {"method": "string"}])
def test_parameters_must_make_sense(wrong: dict[str, Any], paths: Dataset, context: Context) -> None:
    with pytest.raises(BadInput, match="reaction path"):
        ReactionPaths(**wrong).observe(model(), paths, context)


def test_paths_may_stand_in_any_order(paths: Dataset, context: Context) -> None:
    """Frames of several paths between each other; each path in its own order."""
    order = [k + 7 * path for k in range(7) for path in (2, 0, 1)]
    wrong = changed(c_eV_A3=1.5)
    shuffled = measured(wrong, paths.take(order), context)
    assert shuffled == near(measured(wrong, paths, context), rel=1e-6)


def test_keeps_the_contract(paths: Dataset) -> None:
    check_benchmark(MADE, changed(scale=1.1), paths, perfect=model())


def test_numbers_stay_with_their_version(paths: Dataset, context: Context) -> None:
    """When this fails, raise a version; see test_golden.py."""
    assert (MADE.about.observe_version, MADE.about.score_version) == (2, 2)
    bridges: dict[str, Bridge] = {name: replace(one, c_eV_A3=1.5, b_A=0.38) for name, one in BRIDGES.items()}
    found = measured(model(BridgeCalculator(bridges)), paths, context, MADE)
    golden = {
        "path_rmse": 309.135, "path_force_rmse": 286.193, "fixed_barrier_mae": 106.016, "barrier_mae": 176.191,
        "reaction_energy_mae": 451.911, "barrier_bias": 163.877, "saddle_rmsd": 0.0826049,
    }  # fmt: skip
    assert {name: found[name, ""] for name in golden} == near(golden, rel=1e-4)
