"""How far is the kernel from what one core can do?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import numba
import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.neighbours import neighbours
from mlipbench.core.model import Float, Int
from mlipbench.speed.box import random_potential
from mlipbench.speed.comparison import Comparison, Found, in_turn
from mlipbench.speed.settings import Settings

PEAK_SIZE: Final = 768  # a matrix of this size and its products stay in a core's caches
FLOP_PER_MONOMIAL: Final = 4
PASSES: Final = 200
GIGA: Final = 1e9


def floor(settings: Settings) -> Iterator[Found]:
    """Compare the kernel's floating-point operations a second with what the same core does in two plain loops.

    A matrix product shows what the arithmetic of pairs, which runs along neighbours, could reach; and multiplications
    and additions at scattered places of a short array what the sum over monomials could.
    """
    basis, box = settings.medium, settings.box
    potential, given = random_potential(basis), neighbours(box, basis.cutoff_A)
    square = np.random.default_rng(0).standard_normal((PEAK_SIZE, PEAK_SIZE))
    weights, index, a, g = scattered(basis)
    kernel, product, loop = in_turn(
        lambda: potential.evaluate(box, given), lambda: square @ square,
        lambda: indirect(weights, index, a, g),
        repeats=settings.n_calls, clock=time.process_time,
    )  # fmt: skip
    pairs, monomials = flop_per_atom(basis, float(given.start[-1]) / len(box))
    rate = (pairs + monomials) * len(box) / kernel / GIGA
    peak = 2.0 * PEAK_SIZE**3 / product / GIGA
    scattered_rate = FLOP_PER_MONOMIAL * PASSES * len(weights) / loop / GIGA
    least_us = (pairs / peak + monomials / scattered_rate) / 1e3
    spent_us = 1e6 * kernel / len(box)
    name = f"floating-point floor, {functions(basis).n_functions} functions"
    yield Comparison(
        name=f"{name}: kernel, matrix product",
        ours=rate, peer=peak, ratio=peak / rate, bar="", unit="GFLOP/s",
        note=f"at least {pairs:.0f} flop for the pairs of an atom and {monomials:.0f} for its monomials",
    )  # fmt: skip
    yield Comparison(
        name=f"{name}: kernel, the same arithmetic at full speed",
        ours=spent_us, peer=least_us, ratio=spent_us / least_us, bar="", unit="µs/atom",
        note=f"pairs at the rate of the matrix product, monomials at the {scattered_rate:.3g} GFLOP/s of additions of "
        "products at scattered places",
    )  # fmt: skip


def flop_per_atom(basis: Basis, n_neighbours: float) -> tuple[float, float]:
    """Return the fewest floating-point operations of energy, forces and virial of one atom: pairs, and monomials.

    With n neighbours, F features of each, R radial functions, H harmonics and M monomials, n (7 F + 9 R + 10 H + 60)
    and 4 M.

    A feature of a pair is multiplied and added once on the way to A (2), once back to dE/dY (2) and once to dE/dr (3).
    A radial function costs its recurrence and that of its slope (9), a harmonic its value and its part of the gradient
    (10), a pair its distance, exponential, envelope, and the sums of force and virial (60). A monomial costs one
    multiplication and addition for the energy and one for a derivative (4), its inner products being shared.

    >>> flop_per_atom(Basis(numbers=(1,), degrees=(0.0,), l_max=0), 1.0)
    (76.0, 4.0)
    """
    table = functions(basis)
    n_radial = int(table.radial_counts.max()) + table.n_pair_features
    n_harmonics = int(np.flatnonzero(table.radial_counts).max(initial=-1) + 1) ** 2
    pair = 7 * table.n_features + 9 * n_radial + 10 * n_harmonics + 60
    return float(n_neighbours * pair), float(FLOP_PER_MONOMIAL * len(table.monomials))


def scattered(basis: Basis) -> tuple[Float, Int, Float, Float]:
    """Return weights and places of as many multiplications as there are monomials, and two arrays like A and dE/dA."""
    table = functions(basis)
    n_places = len(basis.numbers) * table.n_features
    rng = np.random.default_rng(0)
    count = len(table.monomials)
    index = rng.integers(0, n_places, count)
    return rng.standard_normal(count), index, rng.standard_normal(n_places), np.zeros(n_places)


def _indirect(weights: Float, index: Int, a: Float, g: Float) -> float:
    """Do the innermost step of the sum over monomials for scattered places, several times over."""
    total = 0.0
    for _ in range(PASSES):
        for k in range(len(weights)):
            place = index[k]
            total += weights[k] * a[place]
            g[place] += weights[k] * 1e-3
    return total


indirect = numba.njit(fastmath=True, cache=True)(_indirect)
