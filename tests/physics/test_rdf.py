"""Counts are those of a pencil, an ideal gas has no structure, and distances between curves are what was put in."""

from __future__ import annotations

import numpy as np
import pytest

from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.cells import Float, Int
from mlipbench.physics.rdf import (
    INTER,
    INTRA,
    PairCounts,
    count_pairs,
    first_peak,
    first_valley,
    kind_pairs,
    l1_distance,
    noise_floor,
    wasserstein,
)

R = np.arange(0.02, 8.0, 0.04)


def gas(rng: np.random.Generator, *, n_frames: int, n_atoms: int, edge_A: float) -> tuple[Float, Float]:
    """Independent atoms in a cube."""
    return rng.random((n_frames, n_atoms, 3)) * edge_A, np.repeat(np.eye(3)[None] * edge_A, n_frames, axis=0)


def brute_force(positions: Float, cells: Float, kinds: Int, molecule: Int, *, r_max_A: float, n_bins: int) -> Float:
    """All images within two cells on each side, pair by pair."""
    n_kinds = int(kinds.max()) + 1
    counts = np.zeros((len(kind_pairs(n_kinds)), 2, n_bins))
    shifts = np.array([[a, b, c] for a in range(-2, 3) for b in range(-2, 3) for c in range(-2, 3)])
    first, second = np.triu_indices(len(kinds), k=1)
    low, high = np.minimum(kinds[first], kinds[second]), np.maximum(kinds[first], kinds[second])
    pairs = [kind_pairs(n_kinds).index(pair) for pair in zip(low.tolist(), high.tolist(), strict=True)]
    where = np.asarray(molecule[first] != molecule[second], dtype=int)
    for frame, cell in zip(positions, cells, strict=True):
        inside = frame - np.floor(frame @ np.linalg.inv(cell)) @ cell
        away = (inside[second] - inside[first])[:, None] + (shifts @ cell)[None]
        distance = np.linalg.norm(away, axis=2).min(axis=1)
        near = distance < r_max_A
        place = (distance[near] / r_max_A * n_bins).astype(int)
        np.add.at(counts, (np.array(pairs)[near], where[near], place), 1.0)
    return counts


CELLS = {
    "cube": np.eye(3) * 9.0,
    "box": np.diag([9.0, 11.0, 8.5]),
    "left-handed box": np.diag([9.0, -11.0, 8.5]),
    "skewed": np.array([[9.0, 0.0, 0.0], [4.4, 10.0, 0.0], [-3.0, 4.0, 11.0]]),
    "skewed and turned": np.array([[1.0, 9.0, -2.0], [8.0, 3.0, 4.0], [-3.0, 2.0, 11.0]]),
}


@pytest.mark.parametrize("name", CELLS)
def test_counts_are_those_of_all_images(name: str) -> None:
    rng = np.random.default_rng(0)
    cells = np.array([CELLS[name], CELLS[name] * 1.1])
    narrowest = 1.0 / np.linalg.norm(np.linalg.inv(CELLS[name]), axis=0).max()
    r_max = 0.5 * narrowest
    # Far outside the cell, in single precision, as trajectories are kept.
    positions = ((rng.random((2, 30, 3)) * 7.0 - 3.0) @ CELLS[name]).astype(np.float32)
    kinds, molecule = rng.integers(3, size=30), rng.integers(6, size=30)
    found = count_pairs(positions, cells, kinds, molecule, r_max_A=r_max, n_bins=20)
    expected = brute_force(positions.astype(float), cells, kinds, molecule, r_max_A=r_max, n_bins=20)
    np.testing.assert_array_equal(found.counts, expected)
    assert expected[:, INTRA].sum() > 0
    assert expected[:, INTER].sum() > 0


def test_reach_beyond_half_the_narrowest_width_is_refused() -> None:
    cells = np.array([np.eye(3) * 10.0, np.diag([10.0, 9.0, 10.0])])
    with pytest.raises(NotApplicable, match=r"frame 1 is 9\.000 Å"):
        count_pairs(np.zeros((2, 2, 3)), cells, np.zeros(2, int), np.arange(2), r_max_A=4.6, n_bins=10)
    # The lattice vectors of this one are 10 Å long, but its planes only 7.07 Å apart.
    skewed = np.array([[[10.0, 0, 0], [50**0.5, 50**0.5, 0], [0, 0, 10.0]]])
    with pytest.raises(NotApplicable, match=r"7\.071"):
        count_pairs(np.zeros((1, 2, 3)), skewed, np.zeros(2, int), np.arange(2), r_max_A=4.0, n_bins=10)


def test_shells_of_a_simple_cubic_lattice() -> None:
    """6, 12, 8, 6 neighbours at 1, √2, √3 and 2 spacings."""
    spacing, n = 2.03, 5  # so that no shell lies on the edge of a bin
    sites = spacing * np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(1, -1, 3)
    cells = np.eye(3)[None] * spacing * n
    found = count_pairs(sites, cells, np.zeros(n**3, int), np.arange(n**3), r_max_A=4.5, n_bins=45)
    per_atom = 2.0 * found.counts[0, INTER] / n**3
    assert {int(k): per_atom[k] for k in np.flatnonzero(per_atom)} == {20: 6, 28: 12, 35: 8, 40: 6}
    assert [found.coordination(pair=0, within_A=r) for r in (1.9, 2.5, 3.0, 4.3)] == [0.0, 6.0, 18.0, 32.0]
    assert first_peak(found.middle_A, found.g()[0, INTER])[0] == pytest.approx(2.05, abs=0.05)


def test_coordination_of_unlike_kinds_is_per_atom_of_the_first() -> None:
    """One atom of the first kind between two of the second."""
    positions = np.array([[[0.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]]])
    found = count_pairs(positions, np.eye(3)[None] * 10, np.array([0, 1, 1]), np.arange(3), r_max_A=4.0, n_bins=40)
    assert found.coordination(pair=kind_pairs(2).index((0, 1)), within_A=1.5) == 2.0


def test_ideal_gas_has_no_structure() -> None:
    positions, cells = gas(np.random.default_rng(1), n_frames=200, n_atoms=60, edge_A=12.0)
    kinds = np.repeat([0, 1], [20, 40])
    g = count_pairs(positions, cells, kinds, np.arange(60), r_max_A=6.0, n_bins=12).g()
    np.testing.assert_allclose(g[:, INTER, 3:], 1.0, atol=0.06)
    assert not g[:, INTRA].any()
    # N² in place of N (N - 1) pairs of like atoms would be 5 % off here.
    assert g[0, INTER, 6:].mean() == pytest.approx(1.0, abs=0.015)


def test_parts_add_up_and_frames_do() -> None:
    rng = np.random.default_rng(2)
    positions, cells = gas(rng, n_frames=6, n_atoms=40, edge_A=10.0)
    cells[3:] *= 1.2
    kinds, molecule = rng.integers(2, size=40), np.arange(40) // 5

    def counted(part: slice, groups: Int) -> PairCounts:
        return count_pairs(positions[part], cells[part], kinds, groups, r_max_A=5.0, n_bins=25)

    whole = counted(slice(None), molecule)
    together = counted(slice(0, 2), molecule) + counted(slice(2, 6), molecule)
    np.testing.assert_allclose(together.g(), whole.g())
    assert together.n_frames == 6
    apart = counted(slice(None), np.arange(40))
    np.testing.assert_allclose(apart.g()[:, INTER], whole.g().sum(axis=1))


def test_atoms_of_negative_kind_are_left_out() -> None:
    positions, cells = gas(np.random.default_rng(3), n_frames=2, n_atoms=20, edge_A=10.0)
    kinds = np.where(np.arange(20) < 5, -1, 0)
    found = count_pairs(positions, cells, kinds, np.arange(20), r_max_A=5.0, n_bins=10)
    kept = count_pairs(positions[:, 5:], cells, kinds[5:], np.arange(15), r_max_A=5.0, n_bins=10)
    np.testing.assert_array_equal(found.g(), kept.g())


def liquid(r: Float) -> Float:
    """A first shell at 3 Å and a valley at 4.2 Å."""
    rise = 1.0 / (1.0 + np.exp(-6.0 * (r - 2.5)))
    shells = 1.5 * np.exp(-(((r - 3.0) / 0.25) ** 2)) + 0.2 * np.exp(-(((r - 5.5) / 0.5) ** 2))
    return np.asarray(rise + shells - 0.3 * np.exp(-(((r - 4.2) / 0.4) ** 2)))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_peak_and_valley_are_found_in_noise(noise: float) -> None:
    rng = np.random.default_rng(4)
    curves = [liquid(R) * (1.0 + noise * rng.normal(size=len(R))) for _ in range(100)]
    peaks = np.array([first_peak(R, g)[0] for g in curves])
    valleys = np.array([first_valley(R, g)[0] for g in curves])
    assert np.abs(peaks - 3.01).max() < 0.07
    assert np.abs(valleys - 4.2).max() < 0.3


def test_curve_without_a_second_shell_ends_in_its_lowest_point() -> None:
    g = np.exp(-((R - 3.0) ** 2))
    assert first_valley(R, g)[0] == pytest.approx(R[-1])
    assert first_peak(R, np.linspace(0.0, 1.0, len(R)))[0] == pytest.approx(R[-1])


def test_l1_distance_by_hand() -> None:
    g = liquid(R)
    assert l1_distance(g, g) == 0.0
    assert l1_distance(g, 3.0 * g) == pytest.approx(0.5)
    assert l1_distance(g, 0.0 * g) == 1.0
    assert l1_distance(0.0 * g, 0.0 * g) == 0.0


@pytest.mark.parametrize("shift", [0.04, 0.4, 3.0])
def test_wasserstein_is_the_shift_of_a_peak(shift: float) -> None:
    def peak(at: float) -> Float:
        return np.asarray(np.exp(-50.0 * (R - at) ** 2) / R**2)

    assert wasserstein(peak(3.0), peak(3.0), R) == 0.0
    assert wasserstein(peak(3.0 + shift), 7.0 * peak(3.0), R) == pytest.approx(shift, rel=1e-3)
    # The L1 distance no longer tells such shifts apart.
    assert l1_distance(peak(6.0), peak(3.0)) == pytest.approx(l1_distance(peak(5.0), peak(3.0)), abs=1e-3)


def measured_noise(rng: np.random.Generator, *, n: int, n_reference: int) -> float:
    """Mean L1 distance of runs of as many independent pieces."""

    def run(pieces: int) -> Float:
        return np.asarray(np.mean([piece(rng) for _ in range(pieces)], axis=0))

    return float(np.mean([l1_distance(run(n), run(n_reference)) for _ in range(30)]))


def piece(rng: np.random.Generator) -> Float:
    return np.asarray(liquid(R) + 0.1 * rng.normal(size=len(R)))


def test_noise_floor_is_what_two_runs_differ_by() -> None:
    rng = np.random.default_rng(5)
    expected = noise_floor([piece(rng) for _ in range(12)], n=4.0, n_reference=10.0)
    assert expected == pytest.approx(measured_noise(rng, n=4, n_reference=10), rel=0.1)
    # As if the reference had none:
    assert noise_floor([piece(rng) for _ in range(12)], n=4.0, n_reference=1e9) < 0.9 * expected
    with pytest.raises(BadInput, match="two pieces"):
        noise_floor([piece(rng)], n=1.0, n_reference=1.0)
