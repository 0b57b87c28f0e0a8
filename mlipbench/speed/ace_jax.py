"""How is ace-jax asked? By a script of its own, so that it may live in another environment and sets its own threads."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlipbench.ace.basis import Basis
from mlipbench.errors import ModelFailure, NotApplicable
from mlipbench.speed.settings import Settings

SCRIPT: Final = Path(__file__).with_name("peers") / "run_ace_jax.py"
L_MAX: Final = 6  # more than any degree here admits
L_WEIGHT: Final = 1.5
# Of ace-jax's bond lengths, on which its radial functions are centred: the best on validation frames of 0.15 to 1. With
# the lengths as they are, made for solids, its force errors on these molecules are about twice as large.
BOND_LENGTH_FACTOR: Final = 0.25
TIME_LIMIT_S: Final = 3600.0
ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
KERNEL: Final = "C++ kernel"  # how the name of that way into ace-jax begins
FRESH: Final = "fresh neighbour list"  # how that of the one without a skin ends


def equal_basis(settings: Settings, degree: int, *, offset: float) -> Basis:
    """Return our basis of order 3 that equals ace-jax's of a total degree best.

    ace-jax admits a product when Σ (n - 1 + k / n_elements + 1.5 l) over its features is at most the degree, with n
    from 1 and k the number of the neighbour's element from 1. Our rule has no such shift by element: `offset` stands in
    its place. With 1 every product of ours is one of theirs, and they have more; with the mean shift, both have about
    as many.
    """
    degrees = tuple(degree - offset * order for order in (1, 2, 3))
    return replace(settings.medium, degrees=degrees, l_max=L_MAX, l_weight=L_WEIGHT)


def mean_offset(settings: Settings) -> float:
    """Return the mean over elements of ace-jax's shift: 2/3 for three elements."""
    n = len(settings.numbers)
    return (n + 1) / (2 * n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the script found.

    Attributes:
        version: of ace-jax.
        n_functions: per centre element, with those of its pair potential.
        order_counts: many-body functions of one, two and three features.
        n_pair_functions: of the pair potential.
        fit: what the fit cost and how good it is; empty when none was asked for.
        paths: name, `cpu_s`, `wall_s` and `has_stress` of each way in that was timed.
    """

    version: str
    n_functions: int
    order_counts: list[int]
    n_pair_functions: int
    fit: Mapping[str, float]
    paths: list[dict[str, Any]]

    def fastest(self, *, way: str) -> tuple[str, float]:
        """Return name and processor seconds of the fastest way in: "kernel", "fresh" or "steps"."""

        def wanted(name: str) -> bool:
            kernel, fresh = name.startswith(KERNEL), name.endswith(FRESH)
            return {"kernel": kernel, "fresh": fresh, "steps": not kernel}[way]

        found = [(path["cpu_s"], path["name"]) for path in self.paths if wanted(path["name"])]
        if not found:
            raise NotApplicable("ace-jax's C++ kernel could not be compiled here: it needs a C++17 compiler")
        seconds, name = min(found)
        return name, seconds


def ask(settings: Settings, degree: int, *, is_fitted: bool, is_timed: bool) -> Answer:
    """Fit and time ace-jax at a total degree.

    Raises:
        NotApplicable: it is not installed.
        ModelFailure: it failed.
    """
    python = settings.ace_jax_python
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('ace_jax') is None)"
    if subprocess.run([python, "-c", probe], check=False).returncode:  # noqa: S603  # a fixed argument list, no shell
        raise NotApplicable("ace-jax is not installed: pip install ace-jax==0.4.1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "request.json").write_text(json.dumps(_request(settings, degree)), encoding="utf-8")
        np.savez(folder / "frames.npz", **_frames(settings, is_fitted=is_fitted, is_timed=is_timed))
        done = subprocess.run(  # noqa: S603  # a fixed argument list, no shell
            [python, str(SCRIPT), str(folder)],
            env={**os.environ, **ONE_THREAD, "XDG_CACHE_HOME": str(folder)},
            capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ModelFailure(f"ace-jax failed: {last}")
        found = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    return Answer(**{"fit": {}, "paths": [], **found})


def _request(settings: Settings, degree: int) -> dict[str, Any]:
    weights = settings.weights
    return {
        "numbers": settings.numbers, "order": 3, "degree": degree, "l_weight": L_WEIGHT,
        "cutoff_A": settings.medium.cutoff_A, "bond_length_factor": BOND_LENGTH_FACTOR,
        "e0_eV": settings.e0_eV.tolist(),
        "weights": {"E": weights.energy, "F": weights.forces, "V": weights.stress},
        "n_calls": settings.n_calls, "step_A": settings.step_A, "seed": 0,
    }  # fmt: skip


def _frames(settings: Settings, *, is_fitted: bool, is_timed: bool) -> dict[str, Any]:
    """Return the arrays of each part; a part that is not wanted is empty."""
    none = settings.train.take([])
    test = settings.data.split("test")
    box = next(i for i, frame in enumerate(test.frames) if frame == settings.box)
    parts = {
        "train": settings.train if is_fitted else none,
        "valid": settings.data.split("valid_quick") if is_fitted else none,
        "test": settings.test if is_fitted else none,
        "box": test.take([box]) if is_timed else none,
    }
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        arrays |= {
            f"{name}_n_atoms": part.n_atoms,
            f"{name}_numbers": part.numbers,
            f"{name}_positions": np.concatenate([np.zeros((0, 3)), *(frame.positions for frame in part.frames)]),
            f"{name}_cell": np.array([frame.cell.array for frame in part.frames]).reshape(-1, 3, 3),
            f"{name}_pbc": np.array([frame.pbc for frame in part.frames], dtype=bool).reshape(-1, 3),
            f"{name}_energy": part.energy,
            f"{name}_forces": part.forces,
            f"{name}_stress": part.stress,
            f"{name}_has_stress": part.has_stress,
        }
    return arrays
