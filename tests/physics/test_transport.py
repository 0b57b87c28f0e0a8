"""A random walk has the diffusion coefficient that was put in."""

from __future__ import annotations

import numpy as np
import pytest

from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.cells import Float
from mlipbench.physics.transport import (
    centres,
    diffusion,
    diffusion_stderr_cm2_s,
    displacement_of_kinds,
    finite_size_correction_cm2_s,
    mean_square_displacement,
)

D_A2_PS = 0.7
INTERVAL_PS = 0.5


def walk(rng: np.random.Generator, *, n_frames: int, n_molecules: int) -> Float:
    """Brownian motion with `D_A2_PS`, shape (n_frames, n_molecules, 3), Å."""
    steps = rng.normal(size=(n_frames, n_molecules, 3)) * np.sqrt(2.0 * D_A2_PS * INTERVAL_PS)
    return np.asarray(np.cumsum(steps, axis=0))


def test_displacement_is_the_double_loop() -> None:
    where = walk(np.random.default_rng(0), n_frames=23, n_molecules=4)
    by_hand = [np.mean(((where[lag:] - where[: 23 - lag]) ** 2).sum(axis=2)) for lag in range(23)]
    np.testing.assert_allclose(mean_square_displacement(where), by_hand, atol=1e-9)
    # Far from the origin the squares are 1e12 times larger than what is looked for.
    np.testing.assert_allclose(mean_square_displacement(where + 1e6), by_hand, rtol=1e-6, atol=1e-6)


def test_random_walk_has_the_coefficient_put_in() -> None:
    times = INTERVAL_PS * np.arange(1000)
    found = diffusion(mean_square_displacement(walk(np.random.default_rng(1), n_frames=1000, n_molecules=400)), times)
    assert found.value_A2_ps == pytest.approx(D_A2_PS, rel=0.08)
    assert found.value_cm2_s == pytest.approx(1e-4 * found.value_A2_ps)
    assert found.exponent == pytest.approx(1.0, abs=0.05)


def test_exponent_tells_how_atoms_move() -> None:
    times = INTERVAL_PS * np.arange(100)
    flight = times[:, None, None] * np.random.default_rng(2).normal(size=(1, 50, 3))
    assert diffusion(mean_square_displacement(flight), times).exponent == pytest.approx(2.0, abs=1e-6)
    cage = np.random.default_rng(3).normal(size=(100, 500, 3))
    assert diffusion(mean_square_displacement(cage), times).exponent == pytest.approx(0.0, abs=0.02)
    assert diffusion(6.0 * D_A2_PS * times, times).value_A2_ps == pytest.approx(D_A2_PS)
    with pytest.raises(NotApplicable, match="lags"):
        diffusion(times[:4], times[:4])


def test_one_curve_has_one_coefficient_over_one_window() -> None:
    """A cage of 2 Å² that opens in 5 ps: the window tells another coefficient in a run of 15 than in one of 200 ps."""
    times = 0.25 * np.arange(800)
    curve = 6.0 * 0.11 * times + 2.0 * (1.0 - np.exp(-times / 5.0))
    short = times <= 15.0
    ours = diffusion(curve[short], times[short])
    assert ours.value_cm2_s / diffusion(curve, times).value_cm2_s > 1.1
    assert diffusion(curve, times, length_ps=15.0).value_cm2_s == pytest.approx(ours.value_cm2_s, rel=1e-9)


def test_kinds_of_molecules_wander_apart() -> None:
    where = walk(np.random.default_rng(5), n_frames=40, n_molecules=6)
    found = displacement_of_kinds(where, np.array([0, 1, 1, 0, 1, 1]))
    np.testing.assert_allclose(found[0], mean_square_displacement(where), atol=1e-9)
    np.testing.assert_allclose(found[1], mean_square_displacement(where[:, [0, 3]]), atol=1e-9)


def test_drift_of_everything_is_no_diffusion() -> None:
    rng = np.random.default_rng(4)
    molecule = np.repeat(np.arange(20), 3)
    masses = rng.uniform(1.0, 16.0, size=60)
    positions = walk(rng, n_frames=50, n_molecules=60)
    drift = 0.3 * np.arange(50.0)[:, None, None] * np.array([1.0, -2.0, 0.5])
    still = centres(positions, masses, molecule)
    np.testing.assert_allclose(centres(positions + drift, masses, molecule), still, atol=1e-9)
    weight = np.bincount(molecule, weights=masses)
    np.testing.assert_allclose(np.einsum("m,fma->fa", weight, still), 0.0, atol=1e-9)
    assert diffusion(mean_square_displacement(positions + drift), np.arange(50.0)).exponent > 1.2


def test_centre_of_two_atoms_by_hand() -> None:
    """Masses of 1 and 3 at 0 and 4, beside a lone one of 4 at 9: centres at 3 and 9, of all at 6."""
    positions = np.zeros((1, 3, 3))
    positions[0, :, 0] = [0.0, 4.0, 9.0]
    found = centres(positions, np.array([1.0, 3.0, 4.0]), np.array([0, 0, 1]))
    assert found[0, :, 0].tolist() == [-3.0, 3.0]


def test_error_from_blocks_of_molecules_is_the_spread_between_runs() -> None:
    times = INTERVAL_PS * np.arange(200)
    runs = [walk(np.random.default_rng(k), n_frames=200, n_molecules=48) for k in range(30)]
    values = [diffusion(mean_square_displacement(run), times).value_cm2_s for run in runs]
    errors = [diffusion_stderr_cm2_s(run, times, n_blocks=8) for run in runs]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values, ddof=1), rel=0.35)
    for n_blocks in (1, 49):
        with pytest.raises(BadInput, match="blocks"):
            diffusion_stderr_cm2_s(runs[0], times, n_blocks=n_blocks)


def test_finite_size_correction_in_other_units() -> None:
    """In SI: 2.837297 k T / (6 π η L), with 1 m²/s = 1e4 cm²/s."""
    si = 2.837297 * 1.380649e-23 * 350.0 / (6.0 * np.pi * 1.3e-3 * 25.0e-10)
    found = finite_size_correction_cm2_s(temperature_K=350.0, edge_A=25.0, viscosity_mPa_s=1.3)
    assert found == pytest.approx(1e4 * si, rel=1e-6)
