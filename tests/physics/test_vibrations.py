"""Closed forms of small molecules, what rotations and labels may not change, and which vibration is which."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import constants
from scipy.spatial.transform import Rotation

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Float
from mlipbench.physics.vibrations import (
    Vibrations,
    asymmetry_squares,
    central_hessian,
    compared,
    displaced,
    is_straight,
    matched,
    rigid_motions,
    rmsd_squares_A2,
    superposition,
    turned,
    vibrations,
    zero_point_energy_eV,
)
from mlipbench.units import EV_PER_INVERSE_CM, INVERSE_CM_PER_ROOT_EV_PER_U_SQUARE_ANGSTROM

SEEDS = st.integers(0, 2**32 - 1)
CM = INVERSE_CM_PER_ROOT_EV_PER_U_SQUARE_ANGSTROM


def in_si(k_eV_A2: float, mass_u: float) -> float:
    """√(k/m) in cm⁻¹ by way of SI units."""
    k, m = k_eV_A2 * constants.e / 1e-20, mass_u * constants.atomic_mass
    return float(np.sqrt(k / m) / (2.0 * np.pi * constants.c) / 100.0)


def pair_spring(positions: Float, i: int, j: int, k: float, *, slope_over_r: float = 0.0) -> Float:
    """Hessian of one spring, which may be under tension."""
    n = len(positions)
    along = np.outer(positions[j] - positions[i], positions[j] - positions[i])
    along /= np.trace(along)
    block = k * along + slope_over_r * (np.eye(3) - along)
    found = np.zeros((n, 3, n, 3))
    for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
        found[a, :, b, :] += sign * block
    return found.reshape(3 * n, 3 * n)


def random_molecule(seed: int, n: int = 5) -> tuple[Float, Float, Float]:
    """A cage of springs: Hessian, positions and masses."""
    rng = np.random.default_rng(seed)
    positions, masses = rng.normal(size=(n, 3)), rng.uniform(1.0, 20.0, size=n)
    hessian = sum(pair_spring(positions, i, j, float(rng.uniform(5.0, 50.0))) for i in range(n) for j in range(i))
    return np.asarray(hessian), positions, masses


Make = Callable[[Float, Float, Float], Vibrations]


def check_diatomic(make: Make) -> None:
    """√(k/µ), along any axis."""
    axis = np.array([2.0, -1.0, 2.0]) / 3.0
    positions = np.array([0.3 * axis, 1.4 * axis])
    found = make(pair_spring(positions, 0, 1, 120.0), positions, np.array([12.0, 16.0]))
    np.testing.assert_allclose(found.wavenumbers_per_cm, [in_si(120.0, 12.0 * 16.0 / 28.0)], rtol=1e-8)


def check_linear_triatomic(make: Make) -> None:
    """Stretches √(k/m) and √(k (1/m + 2/M)); two bends √(c (1/m + 2/M)) from a tension c·r in each bond and a push of
    half that between the ends, which leaves the whole free to turn.
    """
    k, c, m, big = 90.0, 3.0, 16.0, 12.0
    positions = np.array([[0.0, 0, -1.16], [0, 0, 0], [0, 0, 1.16]])
    hessian = (
        pair_spring(positions, 0, 1, k, slope_over_r=c)
        + pair_spring(positions, 1, 2, k, slope_over_r=c)
        + pair_spring(positions, 0, 2, 0.0, slope_over_r=-0.5 * c)
    )
    found = make(hessian, positions, np.array([m, big, m]))
    bend = in_si(c * (1.0 / m + 2.0 / big), 1.0)
    wanted = [bend, bend, in_si(k, m), in_si(k * (1.0 / m + 2.0 / big), 1.0)]
    np.testing.assert_allclose(found.wavenumbers_per_cm, np.sort(wanted), rtol=1e-8)


def test_closed_forms() -> None:
    check_diatomic(vibrations)
    check_linear_triatomic(vibrations)


WRONG: dict[str, Make] = {
    "masses ignored": lambda h, x, m: vibrations(h, x, np.ones_like(m)),
    "not by 2 pi": lambda h, x, m: Vibrations(
        wavenumbers_per_cm=2.0 * np.pi * vibrations(h, x, m).wavenumbers_per_cm, modes=vibrations(h, x, m).modes
    ),
    "weighted by masses, not their roots": lambda h, x, m: vibrations(h, x, m**2),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("check", [check_diatomic, check_linear_triatomic])
def test_the_checks_have_teeth(name: str, check: Callable[[Make], None]) -> None:
    with pytest.raises(AssertionError):
        check(WRONG[name])


def test_units_agree_with_si() -> None:
    assert in_si(1.0, 1.0) == pytest.approx(CM, rel=1e-8)
    assert pytest.approx(EV_PER_INVERSE_CM, rel=1e-9) == 1.0 / 8065.543937
    assert zero_point_energy_eV(np.array([1000.0, 3000.0, -700.0])) == pytest.approx(2000.0 / 8065.543937, rel=1e-9)


def test_triangle_of_equal_springs() -> None:
    """D3h, X3: a breathing mode √(3k/m) above a pair √(3k/2m)."""
    angle = np.deg2rad([0.0, 120.0, 240.0])
    positions = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(3)])
    hessian = sum(pair_spring(positions, i, j, 10.0) for i, j in ((0, 1), (1, 2), (0, 2)))
    found = vibrations(np.asarray(hessian), positions, np.full(3, 7.0))
    wanted = [in_si(15.0, 7.0), in_si(15.0, 7.0), in_si(30.0, 7.0)]
    np.testing.assert_allclose(found.wavenumbers_per_cm, wanted, rtol=1e-8)


def test_a_negative_curvature_is_a_negative_wavenumber() -> None:
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    found = vibrations(pair_spring(positions, 0, 1, -50.0), positions, np.array([1.0, 1.0]))
    np.testing.assert_allclose(found.wavenumbers_per_cm, [-in_si(50.0, 0.5)], rtol=1e-8)


def test_an_atom_does_not_vibrate() -> None:
    found = vibrations(np.diag([1.0, 2.0, 3.0]), np.ones((1, 3)), np.array([4.0]))
    assert found.wavenumbers_per_cm.shape == (0,) and found.modes.shape == (0, 3)


@given(seed=SEEDS, n=st.integers(3, 7))
def test_modes_are_orthonormal_and_rigid_motions_are_gone(seed: int, n: int) -> None:
    hessian, positions, masses = random_molecule(seed, n)
    assume(not is_straight(positions))
    found, rigid = vibrations(hessian, positions, masses), rigid_motions(positions, masses)
    assert found.modes.shape == (3 * n - 6, 3 * n)
    np.testing.assert_allclose(found.modes @ found.modes.T, np.eye(3 * n - 6), atol=1e-10)
    np.testing.assert_allclose(found.modes @ rigid, 0.0, atol=1e-9)
    np.testing.assert_allclose(rigid.T @ rigid, np.eye(6), atol=1e-10)


@given(seed=SEEDS)
def test_forces_that_move_or_turn_the_whole_change_nothing(seed: int) -> None:
    """A Hessian away from a minimum, or with noise, may hold curvature along rigid motions."""
    hessian, positions, masses = random_molecule(seed)
    assume(not is_straight(positions))
    root = np.sqrt(np.repeat(masses, 3))
    rigid = rigid_motions(positions, masses) * root[:, None]
    noise = np.random.default_rng(seed).normal(size=(rigid.shape[1], rigid.shape[0]))
    dirty = hessian + rigid @ noise + (rigid @ noise).T
    plain, found = vibrations(hessian, positions, masses), vibrations(dirty, positions, masses)
    np.testing.assert_allclose(found.wavenumbers_per_cm, plain.wavenumbers_per_cm, rtol=1e-6, atol=1e-2)


@given(seed=SEEDS)
def test_nothing_depends_on_orientation_place_or_order(seed: int) -> None:
    hessian, positions, masses = random_molecule(seed)
    assume(not is_straight(positions))
    rng = np.random.default_rng(seed)
    turn, order = Rotation.random(rng=rng).as_matrix(), rng.permutation(len(masses))
    big = np.kron(np.eye(len(masses)), turn)
    rows = (3 * order[:, None] + np.arange(3)).ravel()
    moved = (positions @ turn.T + rng.normal(size=3))[order]
    other = (big @ hessian @ big.T)[np.ix_(rows, rows)]
    plain, found = vibrations(hessian, positions, masses), vibrations(other, moved, masses[order])
    np.testing.assert_allclose(found.wavenumbers_per_cm, plain.wavenumbers_per_cm, rtol=1e-7, atol=1e-3)
    back = found.modes.reshape(len(found.modes), -1, 3)[:, np.argsort(order)].reshape(found.modes.shape)
    _, overlap = matched(turned(back, turn.T), plain.modes)
    np.testing.assert_allclose(overlap, 1.0, atol=1e-3)


@given(seed=SEEDS, scale=st.floats(0.1, 10.0))
def test_wavenumbers_go_with_the_root_of_stiffness_and_mass(seed: int, scale: float) -> None:
    hessian, positions, masses = random_molecule(seed)
    assume(not is_straight(positions))
    plain = vibrations(hessian, positions, masses).wavenumbers_per_cm
    for found in (vibrations(scale * hessian, positions, masses), vibrations(hessian, positions, masses / scale)):
        np.testing.assert_allclose(found.wavenumbers_per_cm, plain * scale**0.5, rtol=1e-7, atol=1e-3)


def test_a_molecule_relaxed_nearly_straight_keeps_its_bends() -> None:
    """What a relaxation leaves of a bend is no axis to turn about."""
    c, positions = 3.0, np.array([[0.0, 0, -1.16], [1e-3, 0, 0], [0, 0, 1.16]])
    on_a_line = positions * [0.0, 0.0, 1.0]
    hessian = pair_spring(on_a_line, 0, 1, 90.0, slope_over_r=c) + pair_spring(on_a_line, 1, 2, 90.0, slope_over_r=c)
    hessian += pair_spring(on_a_line, 0, 2, 0.0, slope_over_r=-0.5 * c)
    masses = np.array([16.0, 12.0, 16.0])
    exact, found = vibrations(hessian, on_a_line, masses), vibrations(hessian, positions, masses)
    np.testing.assert_allclose(found.wavenumbers_per_cm, exact.wavenumbers_per_cm, rtol=1e-5)
    assert not is_straight(positions + np.array([[0.0, 0, 0], [0.2, 0, 0], [0, 0, 0]]))


def quartic(positions: Float) -> Float:
    """Forces of (Σ x_a)⁴/24 + Σ x_a² for all coordinates x_a."""
    x = positions.ravel()
    return np.asarray(-(x.sum() ** 3) / 6.0 - 2.0 * x).reshape(positions.shape)


def test_central_differences_err_with_the_square_of_the_step() -> None:
    """The second derivative of s⁴/24 is s²/2, and its central difference s²/2 + h²/6."""
    positions = np.array([[0.1, 0.2, 0.3], [0.0, -0.1, 0.4]])
    exact = 2.0 * np.eye(6) + 0.5 * positions.sum() ** 2
    for step in (0.1, 0.01):
        found = central_hessian(np.array([quartic(one) for one in displaced(positions, step)]), step)
        np.testing.assert_allclose(found, exact + step**2 / 6.0, atol=1e-9)


def test_rows_are_what_moves() -> None:
    """Forces without a potential tell rows from columns."""
    matrix = np.arange(36.0).reshape(6, 6)
    forces = [(-(matrix @ one.ravel())).reshape(2, 3) for one in displaced(np.zeros((2, 3)), 0.01)]
    found = central_hessian(np.array(forces), 0.01)
    np.testing.assert_allclose(found, matrix.T, atol=1e-10)
    odd, whole = asymmetry_squares(found)
    assert odd == pytest.approx(((0.5 * (matrix - matrix.T)) ** 2).sum())
    assert whole == pytest.approx((matrix**2).sum())


@given(seed=SEEDS)
def test_superposition_finds_the_rotation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions, weights = rng.normal(size=(6, 3)), rng.uniform(0.5, 2.0, size=6)
    turn = Rotation.random(rng=rng).as_matrix()
    moved = positions @ turn.T + rng.normal(size=3)
    found = superposition(moved, positions, weights)
    np.testing.assert_allclose(found, turn.T, atol=1e-5)
    assert np.linalg.det(found) == pytest.approx(1.0)
    assert rmsd_squares_A2(moved, positions).max() < 1e-9


def test_a_mirror_image_is_another_geometry() -> None:
    positions = np.random.default_rng(0).normal(size=(5, 3))
    assert rmsd_squares_A2(positions * [1.0, 1.0, -1.0], positions).sum() > 0.1


@given(seed=SEEDS)
@settings(max_examples=20)
def test_no_other_rotation_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, 5, 3))
    least = rmsd_squares_A2(one, other).sum()
    x, y = one - one.mean(axis=0), other - other.mean(axis=0)
    for turn in Rotation.random(20, rng=rng).as_matrix():
        assert least <= ((x @ turn.T - y) ** 2).sum() + 1e-9


def test_superposition_of_a_straight_molecule_does_not_spin_it() -> None:
    positions = np.array([[0.0, 0, -1.16], [0, 0, 0], [0, 0, 1.16]])
    np.testing.assert_allclose(superposition(positions, positions, np.ones(3)), np.eye(3), atol=1e-6)


def test_modes_are_matched_by_what_moves_not_by_their_order() -> None:
    """Two springs on one axis, one stiff and one soft, exchanged in the model: sorted, nothing is wrong."""
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0], [5.0, 5.0, 0], [5.0, 6.0, 0]])
    masses = np.ones(4)
    loose = 1e-6 * sum(pair_spring(positions, i, j, 1.0) for i in range(4) for j in range(i))
    theirs = loose + pair_spring(positions, 0, 1, 10.0) + pair_spring(positions, 2, 3, 40.0)
    ours = loose + pair_spring(positions, 0, 1, 40.0) + pair_spring(positions, 2, 3, 10.0)
    found = compared(ours, positions, theirs, positions, masses_u=masses)
    low, high = in_si(10.0, 0.5), in_si(40.0, 0.5)
    np.testing.assert_allclose(found.ordered[-2:] - found.reference[-2:], 0.0, atol=1e-2)
    np.testing.assert_allclose(found.reference[-2:], [low, high], rtol=1e-5)
    np.testing.assert_allclose(found.matched[-2:], [high, low], rtol=1e-5)
    assert found.zero_point_error_eV == pytest.approx(0.0, abs=1e-8)


@given(seed=SEEDS)
def test_matching_undoes_any_order_sign_and_turn(seed: int) -> None:
    hessian, positions, masses = random_molecule(seed)
    assume(not is_straight(positions))
    turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    big = np.kron(np.eye(len(masses)), turn)
    found = compared(1.21 * big @ hessian @ big.T, positions @ turn.T, hessian, positions, masses_u=masses)
    np.testing.assert_allclose(found.matched, 1.1 * found.reference, rtol=1e-4, atol=1e-2)
    assert found.squares_A2.max() < 1e-8


def test_wrong_shapes_are_refused() -> None:
    two = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    with pytest.raises(BadInput, match=r"\(6, 6\) and 2 are needed"):
        vibrations(np.eye(5), two, np.ones(2))
    with pytest.raises(BadInput, match="positive mass"):
        vibrations(np.eye(6), two, np.array([1.0, 0.0]))
    with pytest.raises(BadInput, match="cannot be matched"):
        matched(np.eye(3), np.eye(4))
