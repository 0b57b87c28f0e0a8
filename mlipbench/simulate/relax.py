"""FIRE: all replicas slide downhill at once, each at its own pace."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from mlipbench.core.model import Bool, Float
from mlipbench.simulate.state import State

# The values of the paper, in the units of ASE's optimiser, with a mass of 1.
FIRST_STEP: Final = 0.05
LONGEST_STEP: Final = 0.5
LONGEST_MOVE_A: Final = 0.1
MIXING: Final = 0.1
PATIENCE: Final = 5


class Evaluate(Protocol):
    """Asks the model about the state as it is, and notes the answer there."""

    def __call__(self, *, with_virial: bool) -> None:
        """Ask."""


def relaxed(state: State, evaluate: Evaluate, *, n_steps: int, force_eV_A: float = 0.05) -> Bool:
    """Move the atoms of a state downhill, cells fixed, and return which replicas have reached small forces.

    Args:
        state: its positions move, its velocities stay.
        evaluate: takes replicas that fail out of the state.
        n_steps: at most.
        force_eV_A: a replica rests when no force on an atom is larger, eV/Å.

    Source: E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).
    """
    evaluate(with_virial=False)
    alive = state.alive.copy()
    speed = np.zeros_like(state.positions)
    step = np.full(len(alive), FIRST_STEP)
    mixing = np.full(len(alive), MIXING)
    good = np.zeros(len(alive), dtype=np.int64)
    for _ in range(n_steps):
        if not len(state.alive) or _rests(state, force_eV_A).all():
            break
        moving = ~_rests(state, force_eV_A)
        power = state.by_replica(np.einsum("ia,ia->i", state.forces, speed))
        uphill = power <= 0.0
        ratio = _norm(state, speed) / np.maximum(_norm(state, state.forces), 1e-300)
        turned = (1.0 - mixing)[state.owner, None] * speed + (mixing * ratio)[state.owner, None] * state.forces
        speed = np.where((uphill | ~moving)[state.owner, None], 0.0, turned)
        good = np.where(uphill, 0, good + 1)
        step = np.where(uphill, 0.5 * step, np.where(good > PATIENCE, np.minimum(1.1 * step, LONGEST_STEP), step))
        mixing = np.where(uphill, MIXING, np.where(good > PATIENCE, 0.99 * mixing, mixing))
        speed += (step * moving)[state.owner, None] * state.forces
        way = step[state.owner, None] * speed
        longest = np.maximum.reduceat(np.linalg.norm(way, axis=1), state.offsets[:-1])
        state.positions += way * np.minimum(1.0, LONGEST_MOVE_A / np.maximum(longest, 1e-300))[state.owner, None]
        owners = state.alive[state.owner]
        evaluate(with_virial=False)
        if len(state.alive) < len(alive):
            kept = np.isin(alive, state.alive)
            speed = speed[np.isin(owners, state.alive)]
            step, mixing, good, alive = step[kept], mixing[kept], good[kept], state.alive.copy()
    return _rests(state, force_eV_A)


def _norm(state: State, vectors: Float) -> Float:
    squares: Float = np.sqrt(state.by_replica(np.einsum("ia,ia->i", vectors, vectors)))
    return squares


def _rests(state: State, force_eV_A: float) -> Bool:
    largest = np.maximum.reduceat(np.linalg.norm(state.forces, axis=1), state.offsets[:-1])
    rests: Bool = largest < force_eV_A
    return rests
