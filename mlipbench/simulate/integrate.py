"""The moves that dynamics is made of: kicks, drifts, friction with noise, and changes of the volume.

Each acts on all replicas at once, each with its own time step, temperature and pressure.
"""

from __future__ import annotations

import numpy as np

from mlipbench.core.model import Float
from mlipbench.simulate.noise import Noise
from mlipbench.simulate.state import State
from mlipbench.units import (
    BOLTZMANN_EV_PER_K,
    EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS,
)


def kick(state: State, share: float) -> None:
    """Let the forces change velocities for a share of the time step."""
    time = (share * state.timestep_fs)[state.owner, None]
    state.velocities += time * state.forces / (state.mass_u * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS)


def drift(state: State, share: float) -> None:
    """Let the velocities change positions for a share of the time step."""
    state.positions += (share * state.timestep_fs)[state.owner, None] * state.velocities


def rub(state: State, friction_per_ps: float, noise: Noise) -> None:
    """Let friction and noise change velocities for a time step, exactly: the O of BAOAB.

    Source: B. Leimkuhler & C. Matthews, J. Chem. Phys. 138, 174102 (2013).
    """
    before = state.kinetic_eV()
    kept = np.exp(-1e-3 * friction_per_ps * state.timestep_fs)
    heat = BOLTZMANN_EV_PER_K * state.temperature_K * (1.0 - kept**2)
    width = np.sqrt(heat[state.owner, None] / (state.mass_u * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS))
    state.velocities = kept[state.owner, None] * state.velocities + width * noise.langevin(state.step)
    state.added_eV += state.kinetic_eV() - before


def rescale(state: State, relaxation_ps: float, noise: Noise) -> None:
    """Scale all velocities of a replica, so that its kinetic energy takes the canonical distribution.

    Source: G. Bussi, D. Donadio & M. Parrinello, J. Chem. Phys. 126, 014101 (2007), appendix.
    """
    kinetic = state.kinetic_eV()
    kept = np.exp(-1e-3 * state.timestep_fs / relaxation_ps)
    wanted = 0.5 * BOLTZMANN_EV_PER_K * state.temperature_K  # for each degree of freedom
    first, others = noise.rescaling(state.step).T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = wanted / kinetic * (1.0 - kept)
        square = kept + ratio * (first**2 + others) + 2.0 * first * np.sqrt(kept * ratio)
    factor = np.sqrt(np.maximum(np.where(kinetic > 0.0, square, 1.0), 0.0))
    state.velocities *= factor[state.owner, None]
    state.added_eV += (factor**2 - 1.0) * kinetic


def breathe(state: State, *, barostat_ps: float, every: int, noise: Noise) -> None:
    """Change the volume of the replicas that have a pressure, moving groups as wholes; forces become old.

    With L = √V the stochastic cell rescaling has noise of constant strength,
    dL = (β/τ) [L/2 (P - P0) + kT/(4 L)] dt + √(kT β / 2τ) dW, and no drift is left out by the finite step's noise.

    Source: M. Bernetti & G. Bussi, J. Chem. Phys. 153, 114107 (2020), isotropic case.
    """
    moves = np.isfinite(state.pressure_eV_A3)
    root = np.sqrt(np.where(moves, state.volume_A3(), 1.0))
    heat = BOLTZMANN_EV_PER_K * state.temperature_K
    rate = state.compressibility_A3_eV / barostat_ps * 1e-3  # Å^3/eV/fs
    time = every * state.timestep_fs
    excess = np.where(moves, state.pressure() - state.pressure_eV_A3, 0.0)
    step = rate * time * (0.5 * root * excess + 0.25 * heat / root)
    step += np.sqrt(0.5 * heat * rate * time) * noise.barostat(state.step)[:, 0]
    # A volume that would vanish in one step belongs to a replica that is lost; the driver takes it out.
    scale = np.where(moves, np.maximum(1.0 + step / root, 0.5) ** (2.0 / 3.0), 1.0)
    stretch(state, scale)


def stretch(state: State, scale: Float) -> None:
    """Scale cells and centres of groups by a factor for each replica, shape (n,), and the groups' velocities inversely.

    Volume in phase space is kept, so that the pressure is all that drives the volume.
    """
    before = state.kinetic_eV()
    centres, means = state.group_means(state.positions), state.group_means(state.velocities)
    factor = scale[state.group_owner, None]
    state.positions += ((factor - 1.0) * centres)[state.group]
    state.velocities += ((1.0 / factor - 1.0) * means)[state.group]
    state.cells = state.cells * scale[:, None, None]
    state.added_eV += state.kinetic_eV() - before
