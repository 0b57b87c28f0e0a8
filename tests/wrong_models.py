"""Models that are nearly right of some systems and far off in others, so that refusing the others would pay."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np
from ase import Atoms
from known_energy import KnownEnergy

from mlipbench.core.dataset import Dataset
from mlipbench.physics.eos import Curve, energy
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM


def amount(name: str) -> float:
    """How wrong a system is, from 0.01 to 1, even on a scale of decades."""
    return float(10.0 ** (-2.0 * crc32(name.encode()) / 2**32))


def dimers(data: Dataset) -> KnownEnergy:
    """Interactions too strong."""

    def told(atoms: Atoms) -> float:
        for k, frame in enumerate(data.frames):
            if len(frame) == len(atoms) and np.array_equal(frame.positions, atoms.positions):
                reference = float(data.observables["interaction_energy_eV"][k])
                return (1.0 + amount(data.trajectory[k])) * reference
        return 0.0

    return KnownEnergy(energy=told)


def crystals(data: Dataset) -> KnownEnergy:
    """Crystals too large."""
    curves: dict[str, Curve] = {}
    for k, uid in enumerate(data.uid):
        volume, modulus, derivative = (
            float(data.observables[name][k]) for name in ("volume_A3", "bulk_modulus_GPa", "bulk_modulus_derivative")
        )
        curves[uid] = Curve(
            volume_A3=volume * (1.0 + 0.2 * amount(uid)), modulus_eV_per_A3=modulus / GPA_PER_EV_PER_CUBIC_ANGSTROM,
            derivative=derivative,
        )  # fmt: skip

    def told(atoms: Atoms) -> float:
        return len(atoms) * float(energy(curves[str(atoms.symbols[0])], np.array(atoms.get_volume() / len(atoms))))

    return KnownEnergy(energy=told)


def reactions(data: Dataset) -> KnownEnergy:
    """Barriers that are the mean of both ways, and too high by up to a quarter."""
    states = data.observables["transition_state"].astype(int)
    height: dict[int, float] = {}
    for frame in set(states.tolist()):
        mean = float(data.observables["barrier_eV"][states == frame].mean())
        height[frame] = mean * (1.0 + 0.25 * amount(data.trajectory[frame]))

    def told(atoms: Atoms) -> float:
        for frame, high in height.items():
            own = data.frames[frame]
            if len(own) == len(atoms) and np.array_equal(own.positions, atoms.positions):
                return high
        return 0.0

    return KnownEnergy(energy=told)


MADE: dict[str, Callable[[Dataset], KnownEnergy]] = {
    "s22x5": dimers, "equation_of_state": crystals, "barrier_heights": reactions,
}  # fmt: skip
