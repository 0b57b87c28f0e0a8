"""What is wrong with these frames?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.core.model import Float
from mlipbench.data.units import is_guessed
from mlipbench.errors import BadInput

if TYPE_CHECKING:
    from ase import Atoms

    from mlipbench.core.dataset import Dataset

FLAT_CELL_A3: Final = 1e-6
LARGE_FORCE_EV_A: Final = 50.0


def check_frames(
    frames: Sequence[Atoms], energy: Float, forces: Sequence[Float], where: Sequence[str], *, allow_duplicates: bool
) -> None:
    """Refuse frames that no number should be taken from.

    Raises:
        BadInput: no atoms, an unknown element, a label or position that is not finite, a periodic frame without
            a cell, or a structure that occurs twice.
    """
    seen: dict[bytes, str] = {}
    for frame, e, f, place in zip(frames, energy, forces, where, strict=True):
        _check_frame(frame, float(e), f, place)
        if allow_duplicates:
            continue
        digest = fingerprint(frame)
        if digest in seen:
            raise BadInput(
                f"{place}: the same structure as {seen[digest]}. Duplicates leak between splits and narrow intervals; "
                "remove one, or set allow_duplicates = true in the manifest."
            )
        seen[digest] = place


def fingerprint(frame: Atoms) -> bytes:
    """Return a hash of species, positions and cell, rounded to 1e-6 Å."""
    parts = (frame.numbers, np.round(frame.positions, 6) + 0.0, np.round(np.asarray(frame.cell), 6) + 0.0, frame.pbc)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).digest()


def _check_frame(frame: Atoms, energy: float, forces: Float, place: str) -> None:
    """Refuse one frame."""
    if len(frame) == 0:
        raise BadInput(f"{place}: no atoms.")
    if (frame.numbers < 1).any() or (frame.numbers > 118).any():
        bad = sorted({int(z) for z in frame.numbers if not 1 <= z <= 118})
        raise BadInput(f"{place}: unknown element with atomic number {bad}; species must be chemical symbols H to Og.")
    if not np.isfinite(frame.positions).all():
        raise BadInput(f"{place}: a position is not finite.")
    if not np.isfinite(energy):
        raise BadInput(f"{place}: the energy is {energy}; a label must be finite. Remove the frame or label it again.")
    if not np.isfinite(forces).all():
        atom = int(np.argmax(~np.isfinite(forces).all(axis=1)))
        raise BadInput(f"{place}: the force on atom {atom} is not finite. Remove the frame or label it again.")
    if frame.pbc.any() and frame.cell.rank < int(frame.pbc.sum()):
        raise BadInput(
            f"{place}: periodic (pbc = {frame.pbc.tolist()}) but its cell is missing or flat. "
            "Give a Lattice, or set pbc to F F F."
        )
    if frame.pbc.all() and abs(frame.cell.volume) < FLAT_CELL_A3:
        raise BadInput(f"{place}: its periodic cell has no volume. Give a Lattice, or set pbc to F F F.")


def remarks(data: Dataset) -> list[str]:
    """Return what a careful reader would want to know about a data set, one sentence each; nothing is refused."""
    if not data.spec.labelled:
        return ["No energies and forces: rows that compare with labels will be skipped."]
    found = []
    components = np.abs(data.forces).max(axis=1)
    large = np.unique(data.frame_of_atom[components > LARGE_FORCE_EV_A])
    if len(large):
        found.append(
            f"{len(large)} frames have a force component above {LARGE_FORCE_EV_A:g} eV/Å, first {data.uid[large[0]]}."
        )
    guessed = sorted({name for name in data.trajectory if is_guessed(name)})
    if guessed:
        found.append(
            f"No trajectory names: frames of one kind are taken together in {len(guessed)} guessed blocks of"
            " consecutive frames, and intervals are taken over these. They are too narrow where frames stay alike for"
            " longer and too wide where they do not; name the trajectories (key trajectory) to have them right."
        )
    for one, other in (("train", "test"), ("train", "valid"), ("valid", "test")):
        if one in data.splits and other in data.splits:
            found += _shared(data, one, other)
    if data.energy_intra is None:
        found.append("No vacuum labels (energy_intra, forces_intra): intra/inter rows will be skipped.")
    if not data.has_stress.any():
        found.append("No stress labels: stress errors will be absent.")
    return found


def _shared(data: Dataset, one: str, other: str) -> list[str]:
    """Return what two splits have in common."""
    shared = {data.trajectory[i] for i in data.splits[one]} & {data.trajectory[i] for i in data.splits[other]}
    blocks = {name for name in shared if is_guessed(name)}
    named = shared - blocks
    found = []
    if named:
        found.append(f"Splits {one} and {other} share {len(named)} trajectories, as {min(named)}: errors flatter.")
    if blocks:
        found.append(
            f"Splits {one} and {other} take frames from the same {len(blocks)} guessed blocks, as {min(blocks)}: errors"
            " flatter if these frames follow each other in time."
        )
    return found
