"""What energy does each element bring, before anything is learnt?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float
from mlipbench.errors import BadInput

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
            takes them from the one-atom frames, and a table gives them in eV.
        elements: chemical symbols.
        is_shifted: does the model add what the E0s leave to every atom?

    Raises:
        BadInput: an element has no one-atom frame, or is missing from the table; or `e0` is another word.
    """
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
    """Return the energies of the one-atom frames."""
    lone = {
        str(frame.symbols[0]): float(energy)
        for frame, energy in zip(train.frames, train.energy, strict=True)
        if len(frame) == 1
    }
    missing = [symbol for symbol in elements if symbol not in lone]
    if missing:
        raise BadInput(
            f"recipe option e0 = 'isolated': the training split has no one-atom frame of {', '.join(missing)}. "
            "Add them, give a table of energies in eV, or use 'average'."
        )
    return lone


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
