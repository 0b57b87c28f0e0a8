"""Triangles of rows, the evidence, and the ridge regression: closed forms, properties, and methods that fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal

from mlipbench.ace import evidence, triangle
from mlipbench.ace.evidence import at_ridge, banded, best_ridge
from mlipbench.ace.solve import Ridge, solve
from mlipbench.ace.triangle import Triangle, add_rows, compact, merge, no_rows, triangle_of
from mlipbench.core.model import Float
from mlipbench.errors import BadInput


def problem(n_rows: int, n_columns: int, *, noise: float = 0.1, seed: int = 0) -> tuple[Float, Float]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, n_columns))
    return rows, rows @ rng.normal(size=n_columns) + noise * rng.normal(size=n_rows)


def conditioned(n_rows: int, n_columns: int, decades: float) -> Float:
    """Rows whose singular values fall from 1 by some decades, along directions that are no columns."""
    rng = np.random.default_rng(3)
    left = np.linalg.qr(rng.normal(size=(n_rows, n_columns)))[0]
    right = np.linalg.qr(rng.normal(size=(n_columns, n_columns)))[0]
    return np.asarray((left * np.logspace(0, -decades, n_columns)) @ right)


def piece(rows: Float, labels: Float) -> Float:
    return np.asfortranarray(np.column_stack([rows, labels]))


def gram(made: Triangle) -> Float:
    upper = np.triu(made.matrix)
    return np.asarray(upper.T @ upper)


def all_finite(found: Ridge) -> bool:
    numbers = (found.ridge, found.sigma, found.effective_parameters)
    return bool(
        np.isfinite(found.coefficients).all() and np.isfinite(numbers).all() and np.isfinite(found.factor).all()
    )


# Triangles


def test_a_triangle_keeps_the_sums_of_squares_and_solves_least_squares() -> None:
    rows, labels = problem(70, 9)
    made = triangle_of(rows, labels)
    whole = np.column_stack([rows, labels])
    assert np.abs(gram(made) - whole.T @ whole).max() < 1e-12
    assert not np.tril(made.matrix, -1).any()
    best, (left,), *_ = np.linalg.lstsq(rows, labels)
    assert np.abs(np.linalg.solve(made.matrix[:9, :9], made.matrix[:9, 9]) - best).max() < 1e-13
    assert made.matrix[9, 9] ** 2 == pytest.approx(left, rel=1e-12)
    assert (made.n_rows, made.n_columns) == (70, 9)


@pytest.mark.parametrize("n_columns", [31, 32, 255, 256, 300, 520])
def test_triangles_wider_than_a_panel_keep_the_sums_too(n_columns: int) -> None:
    rows, labels = problem(90, n_columns)
    rows[:, 5] = 0.0
    made = triangle_of(rows, labels)
    made = add_rows(made, piece(rows[:40], labels[:40]))
    whole = np.column_stack([rows, labels])
    twice = np.vstack([whole, whole[:40]])
    assert np.abs(gram(made) - twice.T @ twice).max() < 1e-14 * np.square(twice).sum()


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 25), min_size=1, max_size=6),
    n_columns=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_pieces_in_any_order_and_merged_in_any_way_are_the_same(sizes: list[int], n_columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, labels = problem(sum(sizes), n_columns, seed=seed)
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    at_once = triangle_of(rows, labels)
    streamed, apart = no_rows(n_columns), []
    for part in (parts[i] for i in rng.permutation(len(parts))):
        streamed = add_rows(streamed, piece(rows[part], labels[part]))
        apart.append(triangle_of(rows[part], labels[part]))
    from_right = reduce(lambda sum_, one: merge(one, sum_), [copied(one) for one in reversed(apart)])
    from_left = reduce(merge, apart)
    for made in (streamed, from_left, from_right):
        assert made.n_rows == sum(sizes)
        assert np.abs(gram(made) - gram(at_once)).max() < 1e-12 * max(1.0, np.abs(gram(at_once)).max())


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 9),
    n_columns=st.integers(1, 30),
    panel=st.integers(1, 20),
    filled=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
def test_rows_with_zeros_anywhere_are_streamed(size: int, n_columns: int, panel: int, filled: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, labels = problem(23, n_columns, seed=seed)
    rows *= rng.random(rows.shape) < filled
    made = no_rows(n_columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triangle, "_PANEL", panel)
        patch.setattr(triangle, "_BLOCK", 1 + panel // 3)
        for part in np.split(np.arange(23), range(size, 23, size)):
            made = add_rows(made, piece(rows[part], labels[part]))
    whole = np.column_stack([rows, labels])
    assert np.abs(gram(made) - whole.T @ whole).max() < 1e-13 * max(1.0, np.square(whole).sum())


def copied(made: Triangle) -> Triangle:
    return Triangle(matrix=made.matrix.copy(order="F"), n_rows=made.n_rows)


def test_a_triangle_that_may_not_be_written_to_is_copied() -> None:
    rows, labels = problem(30, 4)
    first, second = triangle_of(rows[:15], labels[:15]), triangle_of(rows[15:], labels[15:])
    for made in (first, second):
        made.matrix.flags.writeable = False
    before = first.matrix.copy()
    assert np.abs(gram(merge(first, second)) - gram(triangle_of(rows, labels))).max() < 1e-12
    assert np.array_equal(first.matrix, before)


def test_rows_and_triangles_of_another_width_are_refused() -> None:
    with pytest.raises(BadInput, match="do not fit 3 columns"):
        add_rows(no_rows(3), np.zeros((2, 3), order="F"))
    with pytest.raises(BadInput, match="3 and 4 columns"):
        merge(no_rows(3), no_rows(4))


def test_a_product_of_reflections_with_idle_ones_is_the_product() -> None:
    rng = np.random.default_rng(0)
    vectors, scales = np.asfortranarray(rng.normal(size=(12, 4))), rng.uniform(0.1, 2.0, size=4)
    scales[2], vectors[:, 2] = 0.0, 0.0
    one_by_one = reduce(np.matmul, [np.eye(12) - s * np.outer(v, v) for s, v in zip(scales, vectors.T, strict=True)])
    product = compact(vectors, scales)
    assert np.abs(np.eye(12) - vectors @ product @ vectors.T - one_by_one).max() < 1e-12
    assert not product[2].any()
    assert not product[:, 2].any()


# The ridge regression at a given ridge


def test_a_given_ridge_gives_the_closed_form() -> None:
    rows, labels = problem(60, 12)
    precision = np.random.default_rng(1).uniform(0.5, 20.0, size=12)
    found = solve(triangle_of(rows, labels), precision, ridge=3.0)
    matrix = rows.T @ rows + 3.0 * np.diag(precision)
    best = np.linalg.solve(matrix, rows.T @ labels)
    cost = np.square(labels - rows @ best).sum() + 3.0 * precision @ best**2
    assert np.abs(found.coefficients - best).max() < 1e-13
    assert np.abs(found.factor - np.linalg.cholesky(matrix).T).max() < 1e-12
    assert found.ridge == pytest.approx(3.0, rel=1e-14)
    assert found.sigma == pytest.approx(np.sqrt(cost / 60), rel=1e-12)
    decided = np.trace(np.linalg.solve(matrix, rows.T @ rows))
    assert found.effective_parameters == pytest.approx(decided, rel=1e-12)


def test_a_vanishing_ridge_is_least_squares_and_leaves_a_residual_orthogonal_to_all_columns() -> None:
    rows, labels = problem(60, 12)
    found = solve(triangle_of(rows, labels), np.ones(12), ridge=1e-14).coefficients
    assert np.abs(found - np.linalg.lstsq(rows, labels)[0]).max() < 1e-13
    assert np.abs(rows.T @ (labels - rows @ found)).max() < 1e-12
    assert np.abs(rows.T @ (labels - rows @ (1.001 * found))).max() > 1e-2  # the bar can be missed


def by_triangle(rows: Float, labels: Float) -> Float:
    return solve(triangle_of(rows, labels), np.ones(rows.shape[1])).coefficients


def by_normal_equations(rows: Float, labels: Float) -> Float:
    return np.asarray(np.linalg.solve(rows.T @ rows, rows.T @ labels))


def worst(method: Callable[[Float, Float], Float], decades: float) -> tuple[float, float]:
    rows = conditioned(400, 60, decades)
    truth = np.random.default_rng(5).normal(size=60)
    found = method(rows, rows @ truth)
    return float(np.abs(found - truth).max()), float(np.abs(rows @ (found - truth)).max())


@pytest.mark.parametrize(("decades", "coefficients"), [(7.0, 1e-9), (10.0, 1e-6)])
def test_synthetic_coefficients_are_recovered_where_normal_equations_fail(decades: float, coefficients: float) -> None:
    # Round-off of the labels alone moves a coefficient by the condition number times 1e-16.
    error, misfit = worst(by_triangle, decades)
    assert error < coefficients
    assert misfit < 1e-14
    error, misfit = worst(by_normal_equations, decades)
    assert error > 1e-3
    assert misfit > 1e-11


def test_columns_of_any_size_are_recovered_alike() -> None:
    rows, labels = problem(200, 30, noise=0.0)
    sizes = np.logspace(0, -10, 30)
    found = solve(triangle_of(rows * sizes, labels), sizes**2, ridge=1e-28).coefficients * sizes
    assert np.abs(found - np.linalg.lstsq(rows, labels)[0]).max() < 1e-12


# The evidence


@pytest.mark.parametrize("shape", [(40, 40), (64, 64), (65, 65), (150, 150), (200, 200)])
def test_the_band_has_the_singular_values_and_the_labels_of_the_matrix(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    matrix, labels = np.triu(rng.normal(size=shape)), rng.normal(size=shape[0])
    matrix[:, 3] = matrix[:, 2]
    band = banded(matrix, labels)
    whole = block_diag(*band.diagonal)
    for k, block in enumerate(band.above):
        rows, columns = 64 * k, 64 * (k + 1)
        whole[rows : rows + block.shape[0], columns : columns + block.shape[1]] = block
    wanted = np.linalg.svd(matrix, compute_uv=False)
    assert np.abs(np.linalg.svd(whole, compute_uv=False) - wanted).max() < 1e-13 * wanted[0]
    assert np.linalg.norm(whole.T @ band.labels) == pytest.approx(np.linalg.norm(matrix.T @ labels), rel=1e-12)
    assert all(np.array_equal(block, np.tril(block)) for block in band.above)


@pytest.mark.parametrize("n_columns", [3, 64, 130])
@pytest.mark.parametrize("ridge", [1e-12, 1e-3, 10.0])
def test_a_ridge_on_the_band_is_a_ridge_on_the_rows(n_columns: int, ridge: float) -> None:
    rows, labels = problem(150, n_columns)
    made = triangle_of(rows, labels).matrix
    determinant, cost = at_ridge(banded(made[:-1, :-1], made[:-1, -1]), ridge)
    matrix = rows.T @ rows + ridge * np.eye(n_columns)
    best = np.linalg.solve(matrix, rows.T @ labels)
    wanted = np.square(labels - rows @ best).sum() + ridge * np.square(best).sum()
    assert determinant == pytest.approx(np.linalg.slogdet(matrix)[1] - n_columns * np.log(ridge), rel=1e-11)
    assert cost + made[-1, -1] ** 2 == pytest.approx(wanted, rel=1e-9)


def marginal(rows: Float, labels: Float, precision: Float, ridge: float) -> float:
    """-2 log p(labels | ridge) by the full covariance of the labels, at the best noise."""
    covariance = np.eye(len(rows)) + rows @ (rows / precision).T / ridge
    noise = labels @ np.linalg.solve(covariance, labels) / len(labels)
    return float(-2.0 * multivariate_normal(cov=noise * covariance).logpdf(labels))


def test_the_ridge_has_the_largest_marginal_likelihood() -> None:
    rng = np.random.default_rng(2)
    rows, precision = rng.normal(size=(50, 15)), rng.uniform(0.5, 5.0, size=15)
    labels = rows @ (2.0 * rng.normal(size=15) / np.sqrt(precision)) + 1.5 * rng.normal(size=50)
    found = solve(triangle_of(rows, labels), precision)
    decades = np.linspace(-6, 4, 1001)
    brute = np.array([marginal(rows, labels, precision, 10.0**x) for x in decades])
    assert np.log10(found.ridge) == pytest.approx(decades[brute.argmin()], abs=0.02)
    assert marginal(rows, labels, precision, found.ridge) < brute.min() + 1e-3
    assert marginal(rows, labels, precision, 1.5 * found.ridge) > brute.min() + 1e-2  # the bar can be missed
    scaled = solve(triangle_of(1e3 * rows, labels), precision)
    assert scaled.ridge == pytest.approx(1e6 * found.ridge, rel=0.05)


class TwoValleys:
    """Strong directions with small coefficients and weak ones with large: each kind wants a ridge of its own."""

    values = np.repeat([1.0, 1e-4], 20)
    signal = np.repeat([10.0, 0.1], 20)

    def __init__(self, noise: float) -> None:
        rng = np.random.default_rng(4)
        left = np.linalg.qr(rng.normal(size=(400, 400)))[0]
        right = np.linalg.qr(rng.normal(size=(40, 40)))[0]
        self.left = 360 * noise**2
        self.triangle = triangle_of(
            (left[:, :40] * self.values) @ right, left[:, :40] @ self.signal + left[:, 40:] @ np.full(360, noise)
        )

    def misfit(self, ridge: float) -> float:
        """-2 log evidence, in the singular values."""
        shrunk = ridge / (self.values**2 + ridge)
        return float(400 * np.log(self.left + shrunk @ self.signal**2) - np.log(shrunk).sum())


@pytest.mark.parametrize(("noise", "deeper"), [(0.01, 0), (0.03, 1)])
def test_the_deeper_of_two_valleys_is_found(noise: float, deeper: int) -> None:
    case = TwoValleys(noise)
    decades = np.arange(-14.0, 2.0, 0.02)
    brute = [case.misfit(10.0**x) for x in decades]
    valleys = [i for i in range(1, len(brute) - 1) if brute[i] < min(brute[i - 1], brute[i + 1])]
    assert len(valleys) == 2  # the case is what it says
    assert int(np.argmin(brute)) == valleys[deeper]
    found = solve(case.triangle, np.ones(40)).ridge
    assert np.log10(found) == pytest.approx(decades[valleys[deeper]], abs=0.03)


def test_the_start_of_the_search_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    made, found = TwoValleys(0.03).triangle, []
    for start in (-20, -10, -2):
        monkeypatch.setattr(evidence, "_START", start)
        found.append(solve(made, np.ones(40)).ridge)
    assert found == pytest.approx([found[0]] * 3, rel=0.03)


def test_noise_and_prior_are_found_where_the_model_is_true() -> None:
    rng, k, n, noise, spread = np.random.default_rng(0), 40, 2000, 0.3, 2.0
    rows, precision = rng.normal(size=(n, k)), rng.uniform(0.5, 2.0, size=k)
    truth = spread * rng.normal(size=k) / np.sqrt(precision)
    found = solve(triangle_of(rows, rows @ truth + noise * rng.normal(size=n)), precision)
    assert found.sigma == pytest.approx(noise, rel=0.05)
    assert found.ridge == pytest.approx(noise**2 / spread**2, rel=0.6)


# Traps

TRAPS: dict[str, Callable[[Float, Float], tuple[Float, Float]]] = {
    "singular": lambda x, y: (np.hstack([x[:, :10], x[:, :10]]), y),
    "one row": lambda x, y: (x[:1], y[:1]),
    "more functions than rows": lambda x, y: (x[:8], y[:8]),
    "as many functions as rows": lambda x, y: (x[:20], y[:20]),
    "copies of one row": lambda x, y: (np.repeat(x[:1], 60, axis=0), np.repeat(y[:1], 60)),
    "columns of zeros": lambda x, y: (x * (np.arange(20) % 3 == 0), y),
    "no columns but zeros": lambda x, y: (0.0 * x, y),
    "flat": lambda x, y: (x, 0.0 * y),
    "flat and empty": lambda x, y: (0.0 * x, 0.0 * y),
    "constant": lambda x, y: (x, np.ones_like(y)),
    "no noise": lambda x, y: (x, x @ np.arange(20.0)),
    "no noise and singular": lambda x, y: (np.hstack([x[:, :10], x[:, :10]]), x[:, :10] @ np.arange(10.0)),
    "unreachable": lambda x, y: (np.vstack([x, 0.0 * x]), np.concatenate([0.0 * y, y])),
    "tiny": lambda x, y: (1e-150 * x, 1e-150 * y),
    "tiny rows": lambda x, y: (1e-150 * x, y),
    "huge": lambda x, y: (1e150 * x, 1e150 * y),
    "columns of all sizes": lambda x, y: (x * np.logspace(0, -200, 20), y),
}


@pytest.mark.parametrize("name", TRAPS)
@pytest.mark.parametrize("wide", [1, 5])
def test_traps_of_the_evidence_give_finite_numbers(name: str, wide: int) -> None:
    rng = np.random.default_rng(0)
    rows, labels = TRAPS[name](rng.normal(size=(60, 20)), rng.normal(size=60))
    rows = np.tile(rows, (1, wide))
    n_columns = rows.shape[1]
    found = solve(triangle_of(rows, labels), np.ones(n_columns))
    assert all_finite(found)
    assert 0.0 <= found.effective_parameters <= min(n_columns, len(rows)) + 1e-6
    size = np.abs(labels).max()
    assert 0.0 <= found.sigma <= size
    left = np.abs(rows @ found.coefficients - labels).max()
    assert left <= 3 * size
    if name.startswith("no noise"):
        assert left < 1e-11 * size
        assert found.sigma < 1e-12 * size
    if name.startswith("flat"):
        assert not found.coefficients.any()


def test_labels_without_noise_have_that_of_round_off(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = problem(60, 20, noise=0.0)
    made = triangle_of(rows, labels).matrix
    size, reach = np.linalg.norm(made[:-1, :-1]), np.linalg.norm(labels)
    arguments = made[:-1, :-1] / size, made[:-1, -1] / reach, 0.0, 60
    cost = np.square(np.linalg.lstsq(rows, labels)[0]).sum() * (size / reach) ** 2
    assert best_ridge(*arguments) == pytest.approx(1e-28 * 20 / (60 - 20) / cost, rel=0.05)
    monkeypatch.setattr(evidence, "_ROUND_OFF", 1e-100)
    assert best_ridge(*arguments) < 2e-32  # it runs to the end without


@pytest.mark.parametrize(
    ("made", "precision", "ridge", "message"),
    [
        (no_rows(2), np.ones(2), None, "no rows"),
        (triangle_of(np.full((3, 2), np.nan), np.ones(3)), np.ones(2), None, "not finite"),
        (triangle_of(np.ones((3, 2)), np.array([1.0, np.inf, 1.0])), np.ones(2), None, "not finite"),
        (triangle_of(np.ones((3, 2)), np.ones(3)), np.array([1.0, 0.0]), None, "2 prior precisions"),
        (triangle_of(np.ones((3, 2)), np.ones(3)), np.ones(3), None, "2 prior precisions"),
        (triangle_of(np.ones((3, 2)), np.ones(3)), np.ones(2), 0.0, r"ridge of 0\.0"),
    ],
)
def test_what_cannot_be_solved_is_refused(made: Triangle, precision: Float, ridge: float | None, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        solve(made, precision, ridge=ridge)


@pytest.mark.parametrize("labels_too", [False, True])
@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e-170, 1e160, 1e200, 1e300])
def test_weights_of_any_size_end_in_finite_numbers_or_a_sentence(size: float, labels_too: bool) -> None:
    rows, labels = problem(60, 12)
    made = triangle_of(size * rows, size * labels if labels_too else labels)
    try:
        found = solve(made, np.ones(12))
    except BadInput as error:
        assert str(error).startswith("the ACE fit ")
        assert "weights" in str(error)
    else:
        assert all_finite(found)


@pytest.mark.parametrize("size", [1e200, 1e300])
def test_weights_too_large_for_a_ridge_are_refused(size: float) -> None:
    rows, labels = problem(60, 12)
    with pytest.raises(BadInput, match=r"not finite.* weights"):
        solve(triangle_of(size * rows, labels), np.ones(12))


def test_solving_keeps_the_triangle_and_is_repeatable() -> None:
    made = triangle_of(*problem(60, 12))
    before = made.matrix.copy()
    first, second = solve(made, np.ones(12)), solve(made, np.ones(12))
    assert np.array_equal(made.matrix, before)
    assert np.array_equal(first.coefficients, second.coefficients)
