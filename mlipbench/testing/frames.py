"""Small structures on which a model can go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms


def small_frames(elements: Sequence[str] = ("H", "C", "O")) -> list[Atoms]:
    """Return eight small frames of these elements, the same each time, none at rest.

    They are: a cluster, the same far from the origin, a pair beyond any cutoff, one atom, and four that repeat: a
    box smaller than most cutoffs, a skewed cell with atoms outside it, a slab (two directions) and a chain (one).

    Args:
        elements: chemical symbols; each occurs in each frame of more than two atoms.
    """
    from ase import Atoms

    rng = np.random.default_rng(0)
    symbols = [elements[i % len(elements)] for i in range(max(4, len(elements)))]
    n = len(symbols)
    grid = 1.9 * np.array([[i % 2, (i // 2) % 2, i // 4] for i in range(n)], dtype=float)
    positions = grid + rng.normal(0.0, 0.12, (n, 3))
    height = 1.9 * ((n - 1) // 4 + 1)
    box = np.array([3.9, 4.1, height + 2.0])
    skewed = np.array([[4.4, 0.0, 0.0], [1.1, 4.3, 0.0], [-0.7, 0.9, height + 2.2]])
    return [
        Atoms(symbols, positions),
        Atoms(symbols, positions[::-1] + np.array([311.0, -52.0, 7.0])),
        Atoms(symbols[:2], [[0.0, 0.0, 0.0], [40.0, 3.0, 1.0]]),
        Atoms(symbols[:1], [[1.0, 2.0, 3.0]]),
        Atoms(symbols, positions, cell=box, pbc=True),
        Atoms(symbols, positions + np.array([7.3, -5.1, 20.0]), cell=skewed, pbc=True),
        Atoms(symbols, positions, cell=box, pbc=(True, True, False)),
        Atoms(symbols, positions, cell=box, pbc=(False, False, True)),
    ]
