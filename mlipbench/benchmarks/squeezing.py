"""How is matter squeezed, and what is wrong with the energy on the way?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from mlipbench.core.model import Float, Int
from mlipbench.physics.cells import complete_cell, minimum_image, reduced_cell, shifts_within
from mlipbench.physics.curves import fall_inward, minima
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

PROMINENCE_EV: Final = 0.05  # per atom
# Nearest contact in sums of covalent radii, below which random atoms can only repel: Cr2, the shortest bond, has 0.60.
TOUCHING: Final = 0.6
DENSER: Final = 1.3  # times the density of a frame, up to which a potential will be used
DEEP_EV: Final = 0.5  # in total, as a single pair falls into a hole and not a whole frame
APART_A: Final = 1e-3


def scaled(atoms: Atoms, scale: float) -> Atoms:
    """Return a copy with cell and positions scaled about the origin."""
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array * scale, scale_atoms=False)
    moved.positions = atoms.positions * scale
    return moved


def nearest_contact(atoms: Atoms) -> float:
    """Return the shortest distance of two atoms, images among them, in sums of their covalent radii."""
    from ase.data import covalent_radii

    radii = covalent_radii[atoms.numbers]
    first, second = np.triu_indices(len(atoms), 1)
    apart = minimum_image(atoms.positions[second] - atoms.positions[first], atoms.cell.array, atoms.pbc)
    contacts = np.linalg.norm(apart, axis=1) / (radii[first] + radii[second])
    if not atoms.pbc.any():
        return float(max(contacts.min(), APART_A))
    lattice, _ = reduced_cell(complete_cell(atoms.cell.array, atoms.pbc), atoms.pbc)
    shifts = shifts_within(atoms.pbc.astype(np.int64))
    images = np.linalg.norm(shifts[(shifts != 0).any(axis=1)] @ lattice, axis=1) / (2.0 * radii.max())
    return float(max(min(contacts.min(initial=np.inf), images.min()), APART_A))


def heap(numbers: Int, n_atoms: int, rng: np.random.Generator) -> Atoms:
    """Return random atoms thrown together without a cell, no two of them much nearer than the others."""
    from ase import Atoms
    from ase.data import covalent_radii

    chosen = rng.choice(numbers, size=n_atoms)
    radii = covalent_radii[chosen]
    size = float(2.0 * radii.mean() * n_atoms ** (1 / 3))
    positions: list[Float] = []
    while len(positions) < n_atoms:
        place = rng.uniform(-size, size, size=3)
        reach = radii[: len(positions)] + radii[len(positions)]
        if all(np.linalg.norm(place - other) > r for other, r in zip(positions, reach, strict=True)):
            positions.append(place)
    return Atoms(numbers=chosen, positions=np.array(positions))


class Curve(NamedTuple):
    """What a model answers of one start, from the innermost answer on; `energy` in eV per atom."""

    kind: int
    is_deep: bool
    is_whole: bool
    n_atoms: int
    scale: Float
    contact: Float
    energy: Float


def judged(curve: Curve) -> dict[str, float]:
    """Return the numbers of one curve by metric; holes in meV per atom."""
    kind, is_deep, is_whole, n_atoms, scale, contact, energy = curve
    found: dict[str, float] = {}
    start = _outermost(energy)
    if kind == 0:
        inside = np.flatnonzero(scale >= DENSER ** (-1.0 / 3.0) * (1.0 - 1e-9))
        answered = bool(scale[0] <= DENSER ** (-1.0 / 3.0) * (1.0 + 1e-9))
        fall = 0.0
        if start is not None and start >= inside[0]:
            fall = fall_inward(energy[inside], start - int(inside[0]))
        if answered:
            found["holes_in_reach"] = MEV_PER_EV * fall
        found["with_holes_in_reach"] = float(n_atoms * fall > DEEP_EV or not answered)
    if not is_deep:
        return found
    if kind == 1:
        touching = np.flatnonzero(contact <= TOUCHING)
        fall = fall_inward(energy, int(touching[-1])) if len(touching) else 0.0
    else:
        fall = fall_inward(energy, len(energy) - 1 if start is None else start)
        found["extra_minima"] = float(len(minima(energy, prominence=PROMINENCE_EV)) > 1)
    if is_whole:
        found["holes"] = MEV_PER_EV * fall
        found["collapsed"] = float(np.argmin(energy) == 0)
    found["with_holes"] = float(n_atoms * fall > DEEP_EV or not is_whole)
    return found


def _outermost(energy: Float) -> int | None:
    """Return the place of the outermost minimum, None where there is none."""
    found = minima(energy, prominence=0.1 * PROMINENCE_EV)
    return int(found[-1]) if len(found) else None
