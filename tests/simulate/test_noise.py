"""Random numbers are a function of seed, purpose and step, and otherwise know nothing of each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mlipbench.core.model import Float
from mlipbench.simulate.noise import BAROSTAT, LANGEVIN, RESCALING, STEPS_PER_BLOCK, VELOCITIES, Noise, generator

UNLIKELY = 1e-3
SEEDS = (0, 1, 2, 2**31, 2**63, 2**64 - 1)


def made(*, seeds: tuple[int, ...] = (1, 2, 3), freedom: float = 6.0) -> Noise:
    return Noise(list(seeds), [2] * len(seeds), [freedom] * len(seeds))


@pytest.mark.parametrize("kind", ["langevin", "rescaling", "barostat"])
def test_the_same_step_has_the_same_numbers(kind: str) -> None:
    steps = [0, 5, STEPS_PER_BLOCK - 1, STEPS_PER_BLOCK, 1000]
    known = [getattr(made(), kind)(step).copy() for step in steps]
    again, backwards = made(), made()
    for step, wanted in zip(steps, known, strict=True):
        assert np.array_equal(getattr(again, kind)(step), wanted)
        assert np.array_equal(getattr(again, kind)(step), wanted)  # asked twice
    for step, wanted in zip(steps[::-1], known[::-1], strict=True):
        assert np.array_equal(getattr(backwards, kind)(step), wanted)
    assert len({array.tobytes() for array in known}) == len(steps)


def test_who_leaves_takes_nothing_along() -> None:
    noise, whole = made(), made()
    for step in (0, 3):
        noise.langevin(step)
    noise.keep(np.array([0, 2]))
    for step in (4, 40):
        assert np.array_equal(noise.langevin(step), whole.langevin(step)[[0, 1, 4, 5]])
        assert np.array_equal(noise.rescaling(step), whole.rescaling(step)[[0, 2]])
        assert np.array_equal(noise.barostat(step), whole.barostat(step)[[0, 2]])


def test_seeds_are_whole_numbers_of_any_kind() -> None:
    assert np.array_equal(made(seeds=(5,)).langevin(0), made(seeds=(np.int64(5),)).langevin(0))  # type: ignore[arg-type]
    assert np.array_equal(made(seeds=(-1,)).langevin(0), made(seeds=(2**64 - 1,)).langevin(0))


def streams() -> Float:
    """Ten thousand numbers of each seed, purpose and of three blocks: shape (n_streams, 10000)."""
    return np.array([
        generator(seed, purpose, block).standard_normal(10_000)
        for seed in SEEDS
        for purpose in (VELOCITIES, LANGEVIN, RESCALING, BAROSTAT)
        for block in (0, 1, 2**40)
    ])


def largest_correlation(numbers: Float) -> float:
    """The largest of all correlations between streams, also one number apart, in standard deviations."""
    n = numbers.shape[1]
    at_once = np.corrcoef(numbers)[np.triu_indices(len(numbers), 1)]
    apart = np.corrcoef(numbers[:, 1:], numbers[:, :-1])[: len(numbers), len(numbers) :]
    return float(np.sqrt(n) * max(np.abs(at_once).max(), np.abs(apart).max()))


def test_streams_do_not_resemble_each_other() -> None:
    numbers = streams()
    n = len(numbers) * (len(numbers) - 1) / 2 + len(numbers) ** 2
    allowed = stats.norm.isf(0.5 * UNLIKELY / n)  # Bonferroni
    assert largest_correlation(numbers) < allowed
    numbers[5, 1:] += 0.1 * numbers[17, :-1]
    assert largest_correlation(numbers) > allowed
    assert stats.kstest(streams().ravel()[::7], stats.norm.cdf).pvalue > UNLIKELY


def test_a_block_does_not_run_into_the_next() -> None:
    """More numbers than any step takes, and none of the next block's among them."""
    long, following = generator(1, LANGEVIN, 0).standard_normal(200_000), generator(1, LANGEVIN, 1).standard_normal(100)
    assert not np.isin(following, long).any()
    assert np.isin(long[-100:], long).all()


def test_what_rescaling_takes_is_a_normal_number_and_a_chi_square() -> None:
    freedom = 6.0
    drawn = np.array([made(freedom=freedom).rescaling(0), *(made(freedom=freedom).rescaling(s) for s in range(1, 600))])
    first, others = drawn[:, :, 0].ravel(), drawn[:, :, 1].ravel()
    assert stats.kstest(first, stats.norm.cdf).pvalue > UNLIKELY
    assert stats.kstest(others, stats.chi2(freedom - 1.0).cdf).pvalue > UNLIKELY
    assert stats.kstest(others, stats.chi2(freedom).cdf).pvalue < UNLIKELY
    assert abs(np.corrcoef(first, others)[0, 1]) < 4.0 / np.sqrt(len(first))
    assert np.array_equal(made(freedom=1.0).rescaling(3)[:, 1], np.zeros(3))  # nothing else is free
