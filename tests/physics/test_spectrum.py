"""A spring sounds at its frequency."""

from __future__ import annotations

import numpy as np
import pytest

from mlipbench.errors import NotApplicable
from mlipbench.physics.cells import Float
from mlipbench.physics.spectrum import spectrum_distance, velocity_spectrum
from mlipbench.units import INVERSE_CM_PER_INVERSE_FS

EDGES = np.arange(0.0, 4001.0, 10.0)
MIDDLE = 0.5 * (EDGES[1:] + EDGES[:-1])
INTERVAL_FS = 2.0


def spring(wavenumber_per_cm: float, *, n: int = 4000, amplitude: float = 1.0) -> Float:
    """Velocities of an atom on a spring, shape (n, 1, 3), along x."""
    phase = 2.0 * np.pi * wavenumber_per_cm / INVERSE_CM_PER_INVERSE_FS * INTERVAL_FS * np.arange(n)
    return amplitude * np.stack([np.cos(phase + 0.3), 0.0 * phase, 0.0 * phase], axis=1)[:, None]


def spectrum(velocities: Float, masses_u: Float) -> Float:
    return velocity_spectrum(velocities, masses_u, interval_fs=INTERVAL_FS, edges_per_cm=EDGES)


@pytest.mark.parametrize("wavenumber_per_cm", [55.0, 1000.0, 3123.0])
def test_spring_sounds_at_its_frequency(wavenumber_per_cm: float) -> None:
    found = spectrum(spring(wavenumber_per_cm), np.ones(1))
    assert (found * np.diff(EDGES)).sum() == pytest.approx(1.0)
    assert (found * np.diff(EDGES)) @ MIDDLE == pytest.approx(wavenumber_per_cm, abs=2.0)
    assert found[np.abs(MIDDLE - wavenumber_per_cm) < 25.0].sum() * 10.0 > 0.999


def test_two_springs_have_their_shares_of_kinetic_energy() -> None:
    """Amplitudes of 1 and 2 and masses of 3 and 1: energies of 3 to 4."""
    velocities = np.concatenate([spring(500.0), spring(2000.0, amplitude=2.0)], axis=1)
    found = spectrum(velocities, np.array([3.0, 1.0])) * np.diff(EDGES)
    assert found[MIDDLE < 1000.0].sum() == pytest.approx(3.0 / 7.0, abs=1e-3)
    without_masses = spectrum(velocities, np.ones(2)) * np.diff(EDGES)
    assert abs(without_masses[MIDDLE < 1000.0].sum() - 3.0 / 7.0) > 0.1


def test_noise_is_white_in_bins_that_are_no_multiple_of_the_resolution() -> None:
    """1000 frames 4 fs apart have a line every 8.3 cm⁻¹, so that bins of 10 hold one or two."""
    noise = np.random.default_rng(0).normal(size=(1000, 300, 3))
    found = velocity_spectrum(noise, np.ones(300), interval_fs=4.0, edges_per_cm=EDGES)
    assert found.std() / found.mean() < 0.06


def test_what_cannot_be_seen_is_refused() -> None:
    with pytest.raises(NotApplicable, match="nothing above 3336"):
        velocity_spectrum(np.ones((5000, 1, 3)), np.ones(1), interval_fs=5.0, edges_per_cm=EDGES)
    with pytest.raises(NotApplicable, match="longer trajectory"):
        spectrum(spring(500.0, n=1000), np.ones(1))
    with pytest.raises(NotApplicable, match="nothing moves"):
        spectrum(np.zeros((4000, 1, 3)), np.ones(1))


def test_distance_is_the_shift_over_the_width() -> None:
    def bell(at: float) -> Float:
        return np.asarray(np.exp(-0.5 * ((MIDDLE - at) / 100.0) ** 2) / (100.0 * np.sqrt(2.0 * np.pi)))

    assert spectrum_distance(bell(2000.0), bell(2000.0), EDGES) == 0.0
    for shift in (20.0, 500.0, 1200.0):
        assert spectrum_distance(bell(2000.0 + shift), bell(2000.0), EDGES) == pytest.approx(shift / 100.0, rel=1e-3)
    with pytest.raises(NotApplicable, match="width"):
        spectrum_distance(np.array([0.5, 0.5]), np.array([1.0, 0.0]), np.arange(3.0))
