"""How do fit and inference grow with frames, functions, neighbours and elements?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.neighbours import neighbours
from mlipbench.ace.rows import Labelled, Weights, frame_rows
from mlipbench.ace.solve import solve
from mlipbench.ace.triangle import triangle_of
from mlipbench.benchmarks.frames import spread_out
from mlipbench.core.model import Float
from mlipbench.speed.box import random_potential
from mlipbench.speed.comparison import Curve, Found, in_turn
from mlipbench.speed.settings import Settings
from mlipbench.training.ace import labelled

if TYPE_CHECKING:
    from ase import Atoms

Costs: TypeAlias = dict[str, float]  # CPU seconds of each stage

PRIOR_EXPONENT: Final = 2.0
CALLS: Final = 5
FRAMES: Final = (20, 40, 80, 160)
DEGREES: Final = ((7.0, 4.0, 2.0), (8.0, 5.0, 3.0), (9.0, 6.0, 4.0), (10.0, 7.0, 5.0), (11.0, 8.0, 6.0))
CUTOFFS_A: Final = (3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0)
ELEMENTS: Final = (1, 6, 7, 8, 9)
OF_ELEMENTS: Final = (6.0, 4.0, 2.0)  # so that five elements stay within three thousand columns
SPACING_A: Final = 2.1  # of synthetic atoms, about as dense as an organic liquid
UNITS: Final = {"assembly": "ms/atom", "triangle": "ms/row", "ridge": "s", "inference": "ms/atom"}


def growth(settings: Settings) -> Iterator[Found]:
    """Measure each stage while one thing grows; a stage that does not see it is left out."""
    for variable, points in (
        ("frames", by_frames(settings)),
        ("functions of each element", by_functions(settings)),
        ("neighbours", by_neighbours(settings)),
        ("elements", by_elements(settings)),
    ):
        measured = list(points)
        for stage in measured[0][1]:
            xs, ys = zip(*((x, costs[stage]) for x, costs in measured), strict=True)
            unit = "s" if variable == "frames" else UNITS[stage]
            yield Curve(stage=stage, variable=variable, x=xs, y=ys, unit=unit)


def by_frames(settings: Settings) -> Iterator[tuple[float, Costs]]:
    """Measure whole stages with more and more frames, for the small basis."""
    basis = small(settings)
    for n in FRAMES[: shown(settings, FRAMES)]:
        data = frames_of(settings, n)
        n_atoms = sum(len(one.frame) for one in data)
        n_rows, costs = fit_stages(basis, data)
        yield (
            float(n),
            {
                "assembly": costs["assembly"] * n_atoms / 1e3,
                "triangle": costs["triangle"] * n_rows / 1e3,
                "ridge": costs["ridge"],
                "inference": sum(inference(basis, one.frame) * len(one.frame) for one in data) / 1e3,
            },
        )


def by_functions(settings: Settings) -> Iterator[tuple[float, Costs]]:
    """Measure stages with more and more functions; those of the rows per atom or row."""
    data = frames_of(settings, FRAMES[0])
    for degrees in DEGREES[: shown(settings, DEGREES)]:
        basis = replace(settings.medium, degrees=degrees)
        costs = fit_stages(basis, data)[1]
        yield float(functions(basis).n_functions), {**costs, "inference": inference(basis, settings.box)}


def by_neighbours(settings: Settings) -> Iterator[tuple[float, Costs]]:
    """Measure assembly and inference with a longer and longer cutoff."""
    box = Labelled(frame=settings.box, energy=0.0, forces=np.zeros((len(settings.box), 3)))
    for cutoff_A in CUTOFFS_A[: shown(settings, CUTOFFS_A)]:
        basis = replace(small(settings), cutoff_A=cutoff_A)
        n_neighbours = neighbours(settings.box, cutoff_A).start[-1] / len(settings.box)
        yield (
            float(n_neighbours),
            {
                "assembly": assembly(basis, [box])[2],
                "inference": inference(basis, settings.box),
            },
        )


def by_elements(settings: Settings) -> Iterator[tuple[float, Costs]]:
    """Measure stages with more and more elements, on synthetic frames of equal density."""
    for n in range(1, 1 + shown(settings, ELEMENTS)):
        basis = Basis(numbers=ELEMENTS[:n], cutoff_A=4.5, degrees=OF_ELEMENTS, l_max=2)
        frames = [synthetic(ELEMENTS[:n], side=4, seed=seed) for seed in range(6)]
        costs = fit_stages(basis, frames)[1]
        yield float(n), {**costs, "inference": inference(basis, frames[0].frame)}


def shown(settings: Settings, points: Sequence[object]) -> int:
    """Return how many points to measure: all, or the first two when it is only to be seen to work."""
    return len(points) if settings.is_whole else 2


def small(settings: Settings) -> Basis:
    """Return the basis of medium size but two degrees lower: about 480 functions for three elements."""
    return replace(settings.medium, degrees=DEGREES[2], l_max=2)


def frames_of(settings: Settings, n_frames: int) -> list[Labelled]:
    """Return some training frames, evenly spaced, with labels."""
    return list(labelled(settings.train.take(spread_out(settings.train, n_frames).tolist())))


def fit_stages(basis: Basis, data: Sequence[Labelled]) -> tuple[int, Costs]:
    """Return the number of rows, and what assembly (ms/atom), triangle (ms/row) and ridge (s) cost."""
    rows, labels, assembled = assembly(basis, data)
    start = time.process_time()
    triangle = triangle_of(rows, labels)
    rotated = time.process_time()
    solve(triangle, np.tile(functions(basis).degree, len(basis.numbers)) ** PRIOR_EXPONENT)
    solved = time.process_time()
    costs = {"assembly": assembled, "triangle": 1e3 * (rotated - start) / len(rows), "ridge": solved - rotated}
    return len(rows), costs


def assembly(basis: Basis, data: Sequence[Labelled]) -> tuple[Float, Float, float]:
    """Return the weighted rows of some frames, their labels, and what they cost in ms/atom."""
    baseline, weights = random_potential(basis), Weights()
    frame_rows(baseline, data[0], weights)  # makes the tables
    start = time.process_time()
    found = [frame_rows(baseline, one, weights) for one in data]
    seconds = time.process_time() - start
    rows, labels = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, labels, 1e3 * seconds / sum(len(one.frame) for one in data)


def inference(basis: Basis, frame: Atoms) -> float:
    """Return what energy, forces and virial of one frame cost with its neighbours given, in ms/atom."""
    potential, given = random_potential(basis), neighbours(frame, basis.cutoff_A)
    (seconds,) = in_turn(lambda: potential.evaluate(frame, given), repeats=CALLS, clock=time.process_time)
    return 1e3 * seconds / len(frame)


def synthetic(numbers: Sequence[int], *, side: int, seed: int) -> Labelled:
    """Return side³ atoms of random elements near the points of a simple lattice, with random labels."""
    from ase import Atoms

    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    frame = Atoms(
        numbers=rng.choice(numbers, len(grid)), positions=SPACING_A * (grid + 0.1 * rng.standard_normal(grid.shape)),
        cell=[SPACING_A * side] * 3, pbc=True,
    )  # fmt: skip
    return Labelled(frame=frame, energy=float(rng.normal()), forces=rng.standard_normal((len(grid), 3)))
