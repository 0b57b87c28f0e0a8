"""The posterior of the coefficients: on paper, against its own draws, and against truths it should cover."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import sqrt

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.fit import fit
from mlipbench.ace.posterior import MAX_MEMBERS, Noise, Posterior, Uncertainty, design_rows
from mlipbench.ace.potential import LinearAce
from mlipbench.ace.rows import Labelled, Weights
from mlipbench.core.benchmark import no_progress
from mlipbench.core.model import Float
from mlipbench.errors import BadInput, NotApplicable

BASIS = Basis(numbers=(1, 8), cutoff_A=3.0, degrees=(3.0, 2.0), l_max=1)
N_FUNCTIONS = functions(BASIS).n_functions
N_COLUMNS = 2 * N_FUNCTIONS
PRECISION = np.tile(functions(BASIS).degree, 2) ** 2.0
WEIGHTS = Weights(energy=10.0, forces=2.0, stress=3.0)
SIGMA = 0.02


def potential(weights: Float) -> LinearAce:
    return LinearAce(
        basis=BASIS, e0_eV=np.array([-1.0, -2.0]), weights=weights.reshape(2, -1), wall_reach_A=np.zeros((2, 2))
    )


def cluster(rng: np.random.Generator, *, is_periodic: bool = False) -> Atoms:
    grid = 1.4 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1]], dtype=float)
    frame = Atoms(numbers=rng.permutation([1, 1, 1, 8, 8, 8]), positions=grid + rng.normal(0.0, 0.2, grid.shape))
    if is_periodic:
        frame.set_cell([4.0, 4.2, 4.4])
        frame.pbc = True
    return frame


def weighted(frame: Atoms) -> Float:
    rows = design_rows(BASIS, frame)
    return np.concatenate([rows.energy * WEIGHTS.energy / sqrt(len(frame)), rows.forces * WEIGHTS.forces])


def solved(frames: list[Atoms], labels: Float, ridge: float) -> tuple[Float, Float]:
    """Return mean and factor by the definition, from weighted rows and labels."""
    x = np.concatenate([weighted(frame) for frame in frames])
    stacked = np.concatenate([x, np.diag(np.sqrt(ridge * PRECISION))])
    q, factor = np.linalg.qr(stacked)
    return np.linalg.solve(factor, q.T @ np.concatenate([labels, np.zeros(N_COLUMNS)])), factor


@pytest.fixture(scope="module")
def posterior() -> Posterior:
    rng = np.random.default_rng(0)
    frames = [cluster(rng) for _ in range(3)]
    labels = rng.normal(size=3 * 19)
    mean, factor = solved(frames, labels, ridge=0.01)
    return Posterior(potential=potential(mean), factor=factor, noise=Noise(sigma=SIGMA, weights=WEIGHTS))


def with_factor(factor: Float, sigma: float = SIGMA) -> Posterior:
    return Posterior(potential=potential(np.zeros(N_COLUMNS)), factor=factor, noise=Noise(sigma=sigma, weights=WEIGHTS))


def test_a_diagonal_factor_on_paper() -> None:
    found = with_factor(2.0 * np.eye(N_COLUMNS), sigma=3.0).std(np.eye(N_COLUMNS)[:2] * [[1.0], [-4.0]])
    assert found.tolist() == [1.5, 6.0]


def check_std(std: Callable[[Posterior, Float], Float], posterior: Posterior) -> None:
    rows = np.random.default_rng(1).normal(size=(2500, N_COLUMNS))  # more than a chunk
    upper = np.triu(posterior.factor)
    covariance = SIGMA**2 * np.linalg.inv(upper.T @ upper)
    wanted = np.sqrt(np.einsum("ri,ij,rj->r", rows, covariance, rows))
    np.testing.assert_allclose(std(posterior, rows), wanted, rtol=1e-9)


def test_the_standard_deviation_is_that_of_the_covariance(posterior: Posterior) -> None:
    check_std(Posterior.std, posterior)


WRONG: dict[str, Callable[[Posterior, Float], Float]] = {
    "not transposed": lambda p, rows: SIGMA * np.linalg.norm(np.linalg.solve(p.factor, rows.T), axis=0),
    "variance": lambda p, rows: p.std(rows) ** 2,
    "variance times sigma": lambda p, rows: p.std(rows) * SIGMA,
    "inverse": lambda p, rows: SIGMA * np.linalg.norm(p.factor @ rows.T, axis=0),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_check_has_teeth(name: str, posterior: Posterior) -> None:
    with pytest.raises(AssertionError):
        check_std(WRONG[name], posterior)


def test_what_is_below_the_diagonal_is_not_read(posterior: Posterior) -> None:
    noisy = np.triu(posterior.factor) + np.tril(np.ones((N_COLUMNS, N_COLUMNS)), -1)
    rows = np.random.default_rng(2).normal(size=(5, N_COLUMNS))
    assert np.array_equal(with_factor(noisy).std(rows), posterior.std(rows))
    assert np.array_equal(with_factor(noisy).draw(2, seed=1), with_factor(np.triu(noisy)).draw(2, seed=1))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(-3.0, -0.1))
def test_more_rows_never_make_it_less_sure(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x, row = rng.normal(size=(30, N_COLUMNS)), rng.normal(size=(1, N_COLUMNS))
    prior = np.diag(np.sqrt(PRECISION))
    few = with_factor(np.linalg.qr(np.concatenate([x[:10], prior]))[1])
    more = with_factor(np.linalg.qr(np.concatenate([x, prior]))[1])
    assert more.std(row)[0] <= few.std(row)[0] * (1.0 + 1e-12)
    assert few.std(scale * row)[0] == pytest.approx(abs(scale) * few.std(row)[0], rel=1e-12, abs=1e-300)
    both = few.std(np.concatenate([row, x[:1], row + x[:1]]))
    assert both[2] <= (both[0] + both[1]) * (1.0 + 1e-12)


def test_the_same_seed_gives_the_same_members(posterior: Posterior) -> None:
    many = posterior.draw(20, seed=7)
    assert many.shape == (20, 2, N_FUNCTIONS)
    assert np.array_equal(posterior.draw(20, seed=7), many)
    assert np.array_equal(posterior.draw(3, seed=7), many[:3])
    assert not np.array_equal(posterior.draw(20, seed=8), many)
    assert len({member.tobytes() for member in many}) == 20


def test_many_members_have_the_covariance(posterior: Posterior) -> None:
    n = 4000
    steps = posterior.draw(n, seed=0).reshape(n, -1) - posterior.potential.weights.reshape(-1)
    white = steps @ posterior.factor.T / SIGMA
    correlation = white.T @ white / n
    # Each mean of n squares has the error √(2 / n), each mean of n products 1 / √n.
    assert np.abs(correlation.diagonal() - 1.0).max() < 5.0 * sqrt(2.0 / n)
    assert np.abs(correlation - np.diag(correlation.diagonal())).max() < 5.0 / sqrt(n)
    assert np.abs(white.mean(axis=0)).max() < 5.0 / sqrt(n)


def test_many_members_spread_as_the_analytic_standard_deviation(posterior: Posterior) -> None:
    n = 4000
    rng = np.random.default_rng(3)
    for frame in (cluster(rng), cluster(rng, is_periodic=True)):
        centre = posterior.potential.evaluate(frame)
        squares = [np.zeros(()), np.zeros((6, 3)), np.zeros((3, 3))]
        for weights in posterior.draw(n, seed=5):
            found = potential(weights).evaluate(frame)
            squares[0] += (found.energy - centre.energy) ** 2
            squares[1] += (found.forces - centre.forces) ** 2
            squares[2] += (found.virial - centre.virial) ** 2
        spread = posterior.spread(frame)
        allowed = 5.0 * sqrt(2.0 / n)
        assert squares[0] / n / spread.energy_std**2 == pytest.approx(1.0, abs=allowed)
        np.testing.assert_allclose(squares[1] / n / spread.forces_std**2, 1.0, atol=allowed)
        if frame.pbc.all():
            assert spread.stress_std is not None
            wanted = squares[2] / n / frame.get_volume() ** 2 / spread.stress_std**2
            np.testing.assert_allclose(wanted, 1.0, atol=allowed)
        else:
            assert spread.stress_std is None


def test_rows_times_coefficients_are_the_prediction(posterior: Posterior) -> None:
    frame = cluster(np.random.default_rng(4), is_periodic=True)
    rows, weights = design_rows(BASIS, frame), posterior.potential.weights.reshape(-1)
    found = posterior.potential.evaluate(frame)
    assert rows.energy @ weights == pytest.approx(found.energy - 3 * (-1.0) - 3 * (-2.0), abs=1e-12)
    np.testing.assert_allclose((rows.forces @ weights).reshape(-1, 3), found.forces, atol=1e-12)
    voigt = found.virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(rows.virial @ weights, voigt, atol=1e-12)


def test_lone_atoms_and_no_atoms_are_sure(posterior: Posterior) -> None:
    lone = posterior.spread(Atoms("O"))
    assert lone.energy_std == 0.0
    assert not lone.forces_std.any()
    none = posterior.spread(Atoms())
    assert (none.energy_std, none.forces_std.shape) == (0.0, (0, 3))
    with pytest.raises(NotApplicable, match="does not cover C"):
        posterior.spread(Atoms("C"))


def test_noise_on_paper() -> None:
    noise = Noise(sigma=0.5, weights=Weights(energy=10.0, forces=2.0, stress=5.0))
    assert noise.energy_eV(16) == 0.2
    assert noise.forces_eV_per_A() == 0.25
    assert noise.stress_eV_per_A3(4, volume_A3=10.0) == pytest.approx(0.02)
    silent = Noise(sigma=0.5, weights=Weights(energy=0.0))
    with pytest.raises(NotApplicable, match="no weight on energies"):
        silent.energy_eV(4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: with_factor(np.eye(3)), r"the factor has shape \(3, 3\)"),
        (lambda: with_factor(np.full((N_COLUMNS, N_COLUMNS), np.nan)), "not finite"),
        (lambda: with_factor(np.zeros((N_COLUMNS, N_COLUMNS))), "singular"),
        (lambda: Noise(sigma=-1.0, weights=WEIGHTS), "the sigma is -1.0"),
        (lambda: Noise(sigma=float("nan"), weights=WEIGHTS), "the sigma is nan"),
        (lambda: Noise(sigma=1.0, weights=Weights(forces=-1.0)), "the forces weight is -1.0"),
        (lambda: with_factor(np.eye(N_COLUMNS)).draw(0, seed=0), "0 members; from 1"),
        (lambda: with_factor(np.eye(N_COLUMNS)).draw(MAX_MEMBERS + 1, seed=0), "members; from 1"),
        (lambda: with_factor(np.eye(N_COLUMNS)).std(np.zeros((2, 3))), "columns are needed"),
        (lambda: with_factor(np.eye(N_COLUMNS)).std(np.zeros(N_COLUMNS)), "columns are needed"),
    ],
)
def test_what_has_no_meaning_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        make()


# Calibration: truths drawn from the prior, labels with noise, and one held-out label for each draw.
RIDGE = 0.005
N_DRAWS = 400


Deviations = dict[str, tuple[float, float, float]]  # error of a new label, std of its prediction, noise


@cache
def deviation(seed: int, *, is_ridge_known: bool) -> Deviations:
    """Draw a truth, fit some noisy labels of it, and predict one new energy and one new force component."""
    rng = np.random.default_rng([seed, 11])
    truth = potential(SIGMA * rng.normal(size=N_COLUMNS) / np.sqrt(RIDGE * PRECISION))
    noise = Noise(sigma=SIGMA, weights=WEIGHTS)
    frames = [cluster(rng) for _ in range(4)]
    data = []
    for frame in frames[:-1]:
        right = truth.evaluate(frame)
        data.append(
            Labelled(
                frame=frame,
                energy=right.energy + noise.energy_eV(6) * rng.normal(),
                forces=right.forces + noise.forces_eV_per_A() * rng.normal(size=(6, 3)),
            )
        )
    posterior = by_definition(data) if is_ridge_known else by_evidence(data)
    new, right = posterior.potential.evaluate(frames[-1]), truth.evaluate(frames[-1])
    spread, place = posterior.spread(frames[-1]), tuple(rng.integers([6, 3]))
    energy = right.energy + noise.energy_eV(6) * rng.normal()
    force = right.forces[place] + noise.forces_eV_per_A() * rng.normal()
    return {
        "energy": (energy - new.energy, spread.energy_std, posterior.noise.energy_eV(6)),
        "forces": (force - new.forces[place], spread.forces_std[place], posterior.noise.forces_eV_per_A()),
    }


def by_definition(data: list[Labelled]) -> Posterior:
    """Fit at the right ridge and noise."""
    e0 = -9.0  # three atoms of each kind
    labels = [
        np.concatenate([[(one.energy - e0) * WEIGHTS.energy / sqrt(6)], WEIGHTS.forces * one.forces.reshape(-1)])
        for one in data
    ]
    mean, factor = solved([one.frame for one in data], np.concatenate(labels), RIDGE)
    return Posterior(potential=potential(mean), factor=factor, noise=Noise(sigma=SIGMA, weights=WEIGHTS))


def by_evidence(data: list[Labelled]) -> Posterior:
    """Fit as a training does."""
    made = fit(
        BASIS, data, e0_eV=np.array([-1.0, -2.0]), wall_reach_A=np.zeros((2, 2)), weights=WEIGHTS, prior_exponent=2.0,
        progress=no_progress,
    )  # fmt: skip
    noise = Noise(sigma=made.solution.sigma, weights=WEIGHTS)
    return Posterior(potential=made.potential, factor=made.solution.factor, noise=noise)


def check_calibration(*, kind: str, is_ridge_known: bool, std_factor: float = 1.0, noise_factor: float = 1.0) -> None:
    """Coverage at one and at 1.96 standard deviations, and the spread of the deviations, within 3 binomial errors."""
    drawn = np.array([deviation(seed, is_ridge_known=is_ridge_known)[kind] for seed in range(N_DRAWS)])
    found = drawn[:, 0] / np.hypot(std_factor * drawn[:, 1], noise_factor * drawn[:, 2])
    for limit, share in ((1.0, 0.6827), (1.96, 0.95)):
        allowed = 3.0 * sqrt(share * (1.0 - share) / N_DRAWS)
        assert np.mean(np.abs(found) < limit) == pytest.approx(share, abs=allowed), f"coverage at {limit}"
    assert np.sqrt(np.mean(found**2)) == pytest.approx(1.0, abs=3.0 / sqrt(2 * N_DRAWS))
    assert abs(found.mean()) < 3.0 / sqrt(N_DRAWS)


@pytest.mark.parametrize("kind", ["energy", "forces"])
@pytest.mark.parametrize("is_ridge_known", [True, False])
def test_new_labels_lie_where_it_says(kind: str, is_ridge_known: bool) -> None:
    check_calibration(kind=kind, is_ridge_known=is_ridge_known)


BROKEN = {
    "sigma halved": {"std_factor": 0.5, "noise_factor": 0.5},
    "sigma doubled": {"std_factor": 2.0, "noise_factor": 2.0},
    "coefficients sure": {"std_factor": 0.0},
    "labels sure": {"noise_factor": 0.0},
}


@pytest.mark.parametrize("kind", ["energy", "forces"])
@pytest.mark.parametrize("name", BROKEN)
def test_the_calibration_has_teeth(kind: str, name: str) -> None:
    for is_ridge_known in (True, False):
        with pytest.raises(AssertionError):
            check_calibration(kind=kind, is_ridge_known=is_ridge_known, **BROKEN[name])


@pytest.mark.parametrize(
    ("members", "factor", "message"),
    [
        (np.zeros((2, 6)), None, r"members have shape \(2, 6\)"),
        (np.zeros((0, 2, 3)), None, r"members have shape \(0, 2, 3\)"),
        (np.zeros((2, 2, 0)), None, r"members have shape \(2, 2, 0\)"),
        (np.zeros((MAX_MEMBERS + 1, 1, 1)), None, f"1 to {MAX_MEMBERS} members"),
        (np.full((2, 2, 3), np.nan), None, "members hold a number that is not finite"),
        (np.zeros((2, 2, 3)), np.eye(5), r"factor has shape \(5, 5\); this basis needs \(6, 6\)"),
        (np.zeros((2, 2, 3)), np.full((6, 6), np.inf), "factor holds a number that is not finite"),
        (np.zeros((2, 2, 3)), np.diag([1.0, 1, 1, 0, 1, 1]), "singular"),
    ],
)
def test_an_uncertainty_without_meaning_is_refused(members: Float, factor: Float | None, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Uncertainty(members=members, noise=Noise(sigma=SIGMA, weights=WEIGHTS), factor=factor)


def test_an_uncertainty_keeps_its_numbers() -> None:
    factor = np.triu(np.random.default_rng(0).normal(size=(6, 6)))
    found = Uncertainty(members=np.ones((2, 2, 3)), noise=Noise(sigma=SIGMA, weights=WEIGHTS), factor=factor)
    assert found.factor is not None
    assert np.array_equal(found.factor, factor)
    assert found.factor.flags.f_contiguous
