"""Random numbers that depend on a replica's seed and the step alone: not on who else is simulated, nor on when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from mlipbench.core.model import Float, Int

STEPS_PER_BLOCK: Final = 32  # drawn at a time, since setting a generator up costs as much as some hundred numbers
VELOCITIES, LANGEVIN, RESCALING, BAROSTAT = range(4)


def generator(seed: int, purpose: int, block: int) -> np.random.Generator:
    """Return a generator at a place of a counter-based stream.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, Proc. SC11 (2011).
    """
    key = np.array([int(seed) % 2**64, purpose], dtype=np.uint64)
    # Generators count in the lowest of four words; blocks are counted in the third, out of its reach.
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, block, 0], dtype=np.uint64)))


def first_velocities(seed: int, n_atoms: int) -> Float:
    """Return normal numbers, shape (n_atoms, 3)."""
    return generator(seed, VELOCITIES, 0).standard_normal((n_atoms, 3))


class Noise:
    """The random numbers of some replicas, step by step."""

    def __init__(self, seeds: Sequence[int], n_atoms: Sequence[int], freedoms: Sequence[float]) -> None:
        """Start with nothing drawn.

        Args:
            seeds: of each replica.
            n_atoms: of each replica.
            freedoms: degrees of freedom of each replica, for its thermostat.
        """
        self._seeds, self._n_atoms, self._freedoms = list(seeds), list(n_atoms), list(freedoms)
        self._drawn: dict[int, tuple[int, Float]] = {}

    def keep(self, chosen: Int) -> None:
        """Go on with some replicas only."""
        self._seeds, self._n_atoms, self._freedoms = (
            [given[i] for i in chosen] for given in (self._seeds, self._n_atoms, self._freedoms)
        )
        self._drawn = {}

    def langevin(self, step: int) -> Float:
        """Return normal numbers, shape (n_atoms_total, 3)."""
        return self._at(LANGEVIN, step)

    def rescaling(self, step: int) -> Float:
        """Return a normal number, and a sum of squares of all others but one, for each replica: shape (n, 2)."""
        return self._at(RESCALING, step)

    def barostat(self, step: int) -> Float:
        """Return a normal number for each replica, shape (n, 1)."""
        return self._at(BAROSTAT, step)

    def _at(self, purpose: int, step: int) -> Float:
        block, row = divmod(step, STEPS_PER_BLOCK)
        known = self._drawn.get(purpose)
        if known is None or known[0] != block:
            known = (block, np.concatenate([self._block(i, purpose, block) for i in range(len(self._seeds))], axis=1))
            self._drawn[purpose] = known
        drawn: Float = known[1][row]
        return drawn

    def _block(self, i: int, purpose: int, block: int) -> Float:
        draw = generator(self._seeds[i], purpose, block)
        if purpose == LANGEVIN:
            return draw.standard_normal((STEPS_PER_BLOCK, self._n_atoms[i], 3))
        first = draw.standard_normal((STEPS_PER_BLOCK, 1))
        if purpose == BAROSTAT:
            return first[:, :, None]
        others = 2.0 * draw.standard_gamma(0.5 * max(self._freedoms[i] - 1.0, 0.0), (STEPS_PER_BLOCK, 1))
        return np.stack([first, others], axis=2)
