"""Of benchmarks of the potential energy surface: a formula cannot move without its version, see test_golden.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import broken
import pytest
import scan_case
from ase.calculators.calculator import Calculator

from mlipbench import benchmarks
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset

Case = tuple[Callable[[], Calculator], Callable[[], Dataset], dict[str, Any], tuple[int, int], dict[str, float]]
GOLDEN: dict[str, Case] = {
    "consistency": (
        broken.NotConservative, broken.argon,
        {"n_frames": 2, "n_directions": 2, "n_jacobians": 1, "n_loop_points": 8}, (2, 2),
        {
            "force_gradient": 0.143187053,
            "jacobian_antisymmetry": 0.0248132475,
            "loop_work": 0.00307996532,
            "net_force": 1.55766636,
            "net_torque": 0.714657434,
        },
    ),
    "diatomics": (
        broken.CollapsingWall, broken.argon, {"n_points": 141, "farthest_A": 8.0}, (2, 3),
        {
            "work_mismatch": 1.56552412e-05,
            "collapsed": 1,
            "spurious_minima": 0,
            "force_flips": 0,
            "tortuosity": 1,
            "energy_jump": 0,
            "attraction_rank": 1,
            "not_computed": 0,
        },
    ),
    "compression": (
        broken.CollapsingWall, broken.argon, {"n_frames": 2, "n_random": 2, "n_points": 21}, (2, 2),
        {
            "holes_in_reach": 0,
            "with_holes_in_reach": 0,
            "holes": 19823251.7,
            "with_holes": 1,
            "collapsed": 1,
            "extra_minima": 0,
            "not_computed": 0,
        },
    ),
    "cohesion": (
        broken.FlippedStress, broken.argon, {"n_frames": 2, "n_points": 16}, (3, 3),
        {
            "no_minimum": 0,
            "double_minimum": 0,
            "collapse": 0,
            "collapse_farther": 0,
            "unbound": 0,
            "not_computed": 0,
            "virial_identity": 1.66306047,
        },
    ),
    "volume_scan": (
        broken.lennard_jones, scan_case.data, {}, (2, 2),
        {
            "well_rmse": 43.505816,
            "minimum_error": 1.36447891,
            "depth_error": 100,
            "curvature_error": 105.818234,
            "free_error": 1.80411242e-13,
            "wall_error": 1.79727945,
            "rmse": 1164.92145,
            "roughness": 8.6975778,
            "no_minimum": 0,
            "double_minimum": 0,
            "collapse": 0,
            "unbound": 0,
            "not_computed": 0,
        },
    ),
    "binding_curves": (
        broken.lennard_jones, lambda: scan_case.data(("binding",), n=3), {}, (2, 2),
        {
            "binding_rmse": 41.4621999,
            "well_depth_error": 64.0934032,
            "well_place_error": 0.0591188243,
            "wall_place_error": 0.0462501816,
            "far_rmse": 9.61481343e-13,
            "not_bound": 0,
            "not_computed": 0,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, context: Context) -> None:
    make, data, parameters, versions, wanted = GOLDEN[name]
    row = benchmarks.benchmark(name)(**parameters)
    assert (row.about.observe_version, row.about.score_version) == versions
    frames = data()
    seen = row.observe(broken.model(make()), frames, context)
    found = {value.metric: value.value for value in row.score(seen, frames) if not value.part}
    # what is round-off in the observation is not golden
    assert {key: found[key] for key in wanted} == pytest.approx(wanted, rel=1e-5, abs=1e-9)
