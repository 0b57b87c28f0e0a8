"""The regression: recovery, weights, evidence, and the traps that would end in NaN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from numpy.typing import NDArray

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.fit import (
    Fit,
    Labelled,
    NormalEquations,
    Ridge,
    Weights,
    fit,
    normal_equations,
    solve,
)
from mlipbench.ace.potential import LinearAce
from mlipbench.core.benchmark import no_progress
from mlipbench.errors import BadInput

NO_WALL = np.zeros((3, 3))


def label(potential: LinearAce, frame: Atoms) -> Labelled:
    found = potential.evaluate(frame)
    return Labelled(frame=frame, energy=found.energy, forces=found.forces, stress=found.stress)


def rattled(n: int, *, amplitude: float = 0.15) -> list[Atoms]:
    frames = []
    for seed in range(n):
        frame = molecule(("CH3CH2OH", "H2O", "CH4", "CO2")[seed % 4])
        if seed % 3 == 0:
            frame.set_cell([6.0, 6.5, 7.0])
            frame.pbc = True
        frame.rattle(amplitude, seed=seed)
        frames.append(frame)
    return frames


def refit(potential: LinearAce, data: list[Labelled], *, exponent: float = 2.0, weights: Weights | None = None) -> Fit:
    return fit(
        potential.basis,
        data,
        e0_eV=potential.e0_eV,
        wall_reach_A=potential.wall_reach_A,
        weights=weights or Weights(),
        prior_exponent=exponent,
        progress=no_progress,
    )


def equations_of(rows: NDArray[np.float64], labels: NDArray[np.float64]) -> NormalEquations:
    equations = NormalEquations(rows.shape[1])
    for piece in np.array_split(np.arange(len(rows)), 3):
        equations.add(np.ascontiguousarray(rows[piece]), labels[piece])
    return equations


def all_finite(solution: Ridge) -> bool:
    numbers = (solution.ridge, solution.sigma, solution.effective_parameters)
    return bool(np.isfinite(solution.coefficients).all() and np.isfinite(numbers).all())


def test_coefficients_of_synthetic_data_are_recovered() -> None:
    basis = Basis(numbers=(29,), cutoff_A=4.0, degrees=(3.0, 2.0), l_max=1)
    weights = np.random.default_rng(0).normal(size=(1, functions(basis).n_functions))
    truth = LinearAce(basis=basis, e0_eV=np.array([-3.5]), weights=weights, wall_reach_A=np.zeros((1, 1)))
    frames = []
    for seed in range(12):
        frame = bulk("Cu", cubic=True, a=3.4 + 0.05 * seed)
        frame.rattle(0.3, seed=seed)
        frames.append(frame)
    found = refit(truth, [label(truth, frame) for frame in frames]).potential
    assert np.abs(found.weights - weights).max() < 1e-5
    assert np.abs(0.9 * found.weights - weights).max() > 1e-2  # the bar can be missed


def test_predictions_of_synthetic_data_are_recovered_with_more_functions_than_needed(potential: LinearAce) -> None:
    frames = rattled(60)
    found = refit(potential, [label(potential, frame) for frame in frames[:48]])
    assert found.n_columns == potential.weights.size
    for frame in frames[:48]:
        error = found.potential.evaluate(frame).forces - potential.evaluate(frame).forces
        assert np.sqrt(np.square(error).mean()) < 1e-3


def test_rows_have_the_stated_weights(potential: LinearAce) -> None:
    frame = rattled(1)[0]
    one, weights = label(potential, frame), Weights(energy=7.0, forces=2.0, stress=3.0)
    empty = replace(potential, e0_eV=np.zeros(3), weights=np.zeros_like(potential.weights), wall_reach_A=NO_WALL)
    equations = normal_equations(empty, [one], weights, progress=no_progress)
    assert one.stress is not None
    virial = one.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * frame.get_volume()
    n = len(frame)
    wanted = 49 * one.energy**2 / n + 4 * np.square(one.forces).sum() + 9 * np.square(virial).sum() / n
    assert equations.square == pytest.approx(wanted, rel=1e-12)
    assert equations.n_rows == 1 + 3 * n + 6


def test_the_baseline_is_taken_off_the_labels(potential: LinearAce) -> None:
    frames, walls = rattled(4), replace(potential, weights=np.zeros_like(potential.weights))
    close = Atoms("OH", [[0, 0, 0], [0, 0, 0.8]])
    equations = normal_equations(walls, [label(walls, x) for x in (*frames, close)], Weights(), progress=no_progress)
    assert equations.square == 0.0


def test_pieces_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(40, 7)), rng.normal(size=40)
    equations = equations_of(rows, labels)
    assert np.abs(np.tril(equations.matrix - rows.T @ rows)).max() < 1e-12
    assert np.abs(equations.vector - rows.T @ labels).max() < 1e-12
    assert (equations.square, equations.n_rows) == (pytest.approx(labels @ labels), 40)


def test_noise_and_ridge_have_the_largest_evidence() -> None:
    rng, k, n, noise, spread = np.random.default_rng(0), 40, 2000, 0.3, 2.0
    rows, precision = rng.normal(size=(n, k)), rng.uniform(0.5, 2.0, size=k)
    truth = spread * rng.normal(size=k) / np.sqrt(precision)
    labels = rows @ truth + noise * rng.normal(size=n)
    found = solve(equations_of(rows, labels), precision)

    def misfit(ridge: float) -> float:
        covariance = np.eye(n) + rows @ (rows / precision).T / ridge
        residual = labels @ np.linalg.solve(covariance, labels)
        return float(np.linalg.slogdet(covariance)[1] + n * np.log(residual / n))

    assert found.sigma == pytest.approx(noise, rel=0.05)
    assert found.ridge == pytest.approx(noise**2 / spread**2, rel=0.6)
    assert misfit(found.ridge) < min(misfit(2 * found.ridge), misfit(0.5 * found.ridge))
    direct = np.linalg.solve(rows.T @ rows + found.ridge * np.diag(precision), rows.T @ labels)
    assert np.abs(found.coefficients - direct).max() < 1e-10
    inverse = np.linalg.inv(rows.T @ rows + found.ridge * np.diag(precision))
    assert found.effective_parameters == pytest.approx(np.trace(inverse @ rows.T @ rows), abs=1e-8)


@pytest.mark.parametrize("name", ["singular", "one row", "more functions than rows", "constant", "no noise", "tiny"])
def test_traps_of_the_evidence_give_finite_numbers(name: str) -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(60, 20)), rng.normal(size=60)
    if name == "singular":
        rows[:, 10:] = rows[:, :10]
    elif name == "one row":
        rows, labels = rows[:1], labels[:1]
    elif name == "more functions than rows":
        rows, labels = rng.normal(size=(8, 50)), rng.normal(size=8)
    elif name == "constant":
        labels = np.zeros(60)
    elif name == "no noise":
        labels = rows @ rng.normal(size=20)
    elif name == "tiny":
        rows, labels = 1e-150 * rows, 1e-150 * labels
    found = solve(equations_of(rows, labels), np.ones(rows.shape[1]))
    assert all_finite(found)
    assert 0.0 <= found.effective_parameters <= rows.shape[1]
    if name == "no noise":
        assert np.abs(rows @ found.coefficients - labels).max() < 1e-5


def test_one_frame_many_copies_and_a_constant_energy_are_fitted(potential: LinearAce) -> None:
    frame = rattled(1)[0]
    for data in ([label(potential, frame)], [label(potential, frame)] * 5):
        found = refit(potential, data)
        assert all_finite(found.solution)
        assert found.potential.evaluate(frame).energy == pytest.approx(data[0].energy, abs=1e-2)
    flat = [Labelled(frame=Atoms("H"), energy=-1.0, forces=np.zeros((1, 3)))] * 3
    assert not refit(potential, flat).potential.weights.any()


def test_nothing_to_fit_and_labels_that_are_not_finite_are_refused(potential: LinearAce) -> None:
    with pytest.raises(BadInput, match="no frames"):
        refit(potential, [])
    good = label(potential, rattled(1)[0])
    with pytest.raises(BadInput, match="not finite"):
        refit(potential, [good, replace(good, energy=float("nan"))])


def test_the_fit_is_repeatable(potential: LinearAce) -> None:
    data = [label(potential, frame) for frame in rattled(6)]
    assert np.array_equal(refit(potential, data).potential.weights, refit(potential, data).potential.weights)
