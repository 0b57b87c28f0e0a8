"""Which checks does a model fail, judged by their worst unit?"""

from __future__ import annotations

from typing import Any

import broken
import numpy as np
from ase.calculators.calculator import Calculator

from mlipbench.benchmarks import benchmark
from mlipbench.core.benchmark import Context, no_progress
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import by_unit
from mlipbench.core.metric import score
from mlipbench.core.model import Model
from mlipbench.errors import NotApplicable

ROWS: dict[str, dict[str, Any]] = {
    "symmetry": {"n_frames": 4},
    "consistency": {"n_frames": 4, "n_directions": 2, "n_jacobians": 1, "n_loop_points": 8},
    "reproducibility": {"n_frames": 4},
    "limits": {},
    "extensivity": {"n_molecules": 2},
    "locality": {"n_strings": 1, "n_moved": 4, "far_A": 30.0, "length_A": 40.0},
    "smoothness": {"n_frames": 1},
    "diatomics": {"n_points": 161, "farthest_A": 8.0},
    "compression": {"n_frames": 2, "n_random": 2, "n_points": 25},
    "cohesion": {"n_frames": 2, "n_points": 20},
}


def fired(
    calculator: Calculator, data: Dataset, rows: dict[str, dict[str, Any]] = ROWS
) -> tuple[set[str], set[str], dict[str, float]]:
    """Return the checks that fired on their worst unit, all checks that were made, and the values."""
    fire, made, values = set(), set(), {}
    model = calculator if isinstance(calculator, Model) else broken.model(calculator)
    for name, parameters in rows.items():
        row = benchmark(name)(**parameters)
        try:
            seen = row.observe(model, data, Context(seed=0, device="cpu", progress=no_progress))
        except NotApplicable:
            continue
        definition = {metric.name: metric for metric in row.about.metrics}
        for value in row.score(seen, data):
            metric, key = definition[value.metric], f"{name}.{value.metric}"
            if value.part:
                continue
            values[key] = value.value
            if metric.role in ("check", "merit"):
                made.add(key)
                each = by_unit(value.samples) if value.samples is not None else np.array([value.value])
                worst = float(each.max() if metric.better == "lower" else each.min())
                if score(metric, worst) <= 0.0:
                    fire.add(key)
    return fire, made, values


def severe(names: set[str]) -> set[str]:
    """Return those that a gate refuses a model for."""
    severity = {f"{name}.{metric.name}": metric.severity for name in ROWS for metric in benchmark(name).about.metrics}
    return {name for name in names if severity[name] in ("must", "fatal")}
