"""What energy does each element bring, before anything is learnt?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float
from mlipbench.errors import BadInput

if TYPE_CHECKING:
    from ase import Atoms

LONE_A = 6.0  # an atom is alone when its nearest image is farther away
MOST_APART_EV = 1e-3  # energies of one element's lone atoms agree within it, or one of them is wrong
# A bond is worth a few eV: this much is left when E0s are those of free atoms, and not when they are fitted.
FAR_OFF_EV_PER_ATOM = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Energies per element (E0s).

    Attributes:
        energies_eV: by chemical symbol.
        rank: independent compositions they come from; None where they were not fitted.
        offset_eV_per_atom: mean over frames of what they leave of the energy, per atom.
        notes: warnings for the model card.
    """

    energies_eV: Mapping[str, float]
    rank: int | None
    offset_eV_per_atom: float
    notes: tuple[str, ...]


def baseline(train: Dataset, e0: str | Mapping[str, float], elements: tuple[str, ...], *, is_shifted: bool) -> Baseline:
    """Return the E0s of these elements.

    Args:
        train: labelled frames.
        e0: "average" fits them to the energies by least squares (of least norm where that leaves a choice), "isolated"
            takes them from the frames of one atom without periodicity or with its nearest image more than 6 Å away
            (the lowest energy, where there are several), and a table gives them in eV.
        elements: chemical symbols.
        is_shifted: does the model add what the E0s leave to every atom?

    Raises:
        BadInput: an energy is not finite; an element has no frame of a lone atom, or several that differ by more than
            1 meV, or is missing from the table; or `e0` is another word.
    """
    if not np.isfinite(train.energy).all():
        bad = int(np.argmin(np.isfinite(train.energy)))
        raise BadInput(f"the energy of training frame {bad} ({train.uid[bad]}) is not finite; leave the frame out.")
    counts = np.array([[list(frame.symbols).count(x) for x in elements] for frame in train.frames], dtype=np.float64)
    if e0 == "average":
        found, _, rank, _ = np.linalg.lstsq(counts, train.energy, rcond=None)
        energies, fitted_rank = dict(zip(elements, found.tolist(), strict=True)), int(rank)
    elif e0 == "isolated":
        energies, fitted_rank = _isolated(train, elements), None
    elif isinstance(e0, Mapping):
        missing = [symbol for symbol in elements if symbol not in e0]
        if missing:
            raise BadInput(f"recipe option e0: the table has no energy for {', '.join(missing)}, which the data hold.")
        energies, fitted_rank = {symbol: float(e0[symbol]) for symbol in elements}, None
    else:
        raise BadInput(f"recipe option e0 = '{e0}': 'average', 'isolated' or a table of energies in eV is needed.")
    vector = np.array([energies[symbol] for symbol in elements])
    left = _left(train.energy, counts, vector)
    return Baseline(
        energies_eV=energies,
        rank=fitted_rank,
        offset_eV_per_atom=left,
        notes=_notes(fitted_rank, left if is_shifted else 0.0, elements),
    )


def _isolated(train: Dataset, elements: tuple[str, ...]) -> dict[str, float]:
    """Return the energies of the frames of a lone atom."""
    lone: dict[str, list[int]] = {}
    crowded = set()
    for i, frame in enumerate(train.frames):
        if is_lone(frame):
            lone.setdefault(str(frame.symbols[0]), []).append(i)
        elif len(frame) == 1:
            crowded.add(str(frame.symbols[0]))
    missing = [symbol for symbol in elements if symbol not in lone]
    if missing:
        close = ", ".join(symbol for symbol in missing if symbol in crowded)
        why = f" (those of {close} are periodic, with images within {LONE_A:g} Å)" if close else ""
        raise BadInput(
            f"recipe option e0 = 'isolated': the training split has no one-atom frame of {', '.join(missing)}{why}. "
            "Add them without periodicity, give a table of energies in eV, or use 'average'."
        )
    return {symbol: _agreed(train, lone[symbol], symbol) for symbol in elements}


def is_lone(frame: Atoms) -> bool:
    """Return whether a frame is one atom that sees no image of itself within `LONE_A`."""
    return len(frame) == 1 and _nearest_image_A(frame) > LONE_A


def _agreed(train: Dataset, frames: list[int], symbol: str) -> float:
    """Return the lowest energy of these frames of one lone atom; the order of frames does not matter."""
    low, high = (frames[int(place(train.energy[frames]))] for place in (np.argmin, np.argmax))
    apart = float(train.energy[high] - train.energy[low])
    if apart > MOST_APART_EV:
        raise BadInput(
            f"recipe option e0 = 'isolated': the lone {symbol} atoms of training frames {low} ({train.uid[low]}) and "
            f"{high} ({train.uid[high]}) differ by {1e3 * apart:.3g} meV, and {1e3 * MOST_APART_EV:g} meV is allowed. "
            "Keep the right one, or give a table of energies in eV."
        )
    return float(train.energy[low])


def _nearest_image_A(frame: Atoms) -> float:
    """Return the distance of an atom from its nearest image: infinite without periodicity, 0 where a vector is missing.

    >>> from ase import Atoms
    >>> _nearest_image_A(Atoms("H", cell=[[9, 0, 0], [8, 3, 0], [0, 0, 1]], pbc=(True, True, False)))  # 1, -3 and 0
    3.1622776601683795
    """
    from ase.geometry import minkowski_reduce

    vectors = frame.cell.array[frame.pbc]
    if not len(vectors):
        return float("inf")
    if np.linalg.matrix_rank(vectors) < len(vectors):
        return 0.0
    reduced = np.asarray(minkowski_reduce(frame.cell, frame.pbc)[0])[frame.pbc]
    return float(np.linalg.norm(reduced, axis=1).min())


def _left(energy: Float, counts: Float, energies: Float) -> float:
    """Return the mean over frames of more than one atom of what the E0s leave, in eV/atom; 0 where there are none."""
    n_atoms = counts.sum(axis=1)
    bonded = n_atoms > 1
    if not bonded.any():
        return 0.0
    return float(np.mean((energy - counts @ energies)[bonded] / n_atoms[bonded]))


def _notes(rank: int | None, left: float, elements: tuple[str, ...]) -> tuple[str, ...]:
    """Say what a reader of energies must know."""
    notes = []
    if rank is not None and rank < len(elements):
        notes.append(
            f"E0s from least squares have rank {rank} of {len(elements)} elements: energies of other compositions "
            "are meaningless."
        )
    if abs(left) > FAR_OFF_EV_PER_ATOM:
        notes.append(
            f"The E0s leave {left:.2f} eV/atom on average: the model adds it to every atom as a shift, so the energy "
            "of a lone atom is off by about as much."
        )
    return tuple(notes)
