"""What is a set of labelled structures?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.core.model import Bool, Float, Int
from mlipbench.errors import unknown

if TYPE_CHECKING:
    from ase import Atoms

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """Where labels come from, and which files hold them.

    Attributes:
        name: short name, as in `reference_data/<name>`.
        version: moves whenever a label, a frame or a split moves.
        level_of_theory: of the labels, as in "GFN1-xTB".
        licence: SPDX name.
        citation: what to cite, one text each.
        elements: chemical symbols that occur.
        sha256: of the manifest and every file it names, in the manifest's order.
        about: one paragraph.
        make_vacuum_labels: the command that adds vacuum labels, for the message of a skipped row.
        labels: which keys were taken for labels, one sentence.
        labelled: do the frames have energies and forces? Those of a collection have none: zeros stand in their place,
            and what is known of it are its observables.
    """

    name: str
    version: str
    level_of_theory: str
    licence: str
    citation: tuple[str, ...]
    elements: tuple[str, ...]
    sha256: str
    about: str = ""
    make_vacuum_labels: str = ""
    labels: str = ""
    labelled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Labelled frames; the arrays run frame after frame, like `Predictions`.

    Attributes:
        spec: where they come from.
        frames: structures without calculator.
        uid: name of each frame, unique in the data set.
        energy: shape (n_frames,), eV.
        forces: shape (n_atoms_total, 3), eV/Å.
        stress: shape (n_frames, 3, 3), eV/Å^3, ASE's sign; zero where there is none.
        has_stress: shape (n_frames,).
        trajectory: the independent unit each frame belongs to; intervals are taken over these.
        config_type: kind of each frame.
        splits: named lists of frame numbers.
        molecule: shape (n_atoms_total,), molecule number of each atom from 0 in its frame; None when not given.
        molecule_charges: per frame, charge of each molecule in e; None when not given.
        energy_intra: shape (n_frames,), eV, sum over a frame's molecules, each alone in vacuum; None when not given.
        forces_intra: shape (n_atoms_total, 3), eV/Å, on each atom from its own molecule alone; None when not given.
        observables: what the reference's own dynamics gave, arrays by "state/name", for all states of the whole set;
            of a collection its reference values, by name, for all frames of the whole set.
    """

    spec: DatasetSpec
    frames: tuple[Atoms, ...]
    uid: tuple[str, ...]
    energy: Float
    forces: Float
    stress: Float
    has_stress: Bool
    trajectory: tuple[str, ...]
    config_type: tuple[str, ...]
    splits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    molecule: Int | None = None
    molecule_charges: tuple[tuple[int, ...], ...] | None = None
    energy_intra: Float | None = None
    forces_intra: Float | None = None
    observables: Mapping[str, Float] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    @property
    def n_atoms(self) -> Int:
        """Atoms of each frame, shape (n_frames,)."""
        return np.array([len(frame) for frame in self.frames], dtype=np.int64)

    @property
    def offsets(self) -> Int:
        """First atom row of each frame, and the number of rows: shape (n_frames + 1,)."""
        return np.concatenate([[0], np.cumsum(self.n_atoms)]).astype(np.int64)

    @property
    def frame_of_atom(self) -> Int:
        """Frame number of each atom row, shape (n_atoms_total,)."""
        return np.repeat(np.arange(len(self)), self.n_atoms)

    @property
    def numbers(self) -> Int:
        """Atomic number of each atom row, shape (n_atoms_total,)."""
        return np.concatenate([frame.numbers for frame in self.frames]) if self.frames else np.zeros(0, np.int64)

    def split(self, name: str) -> Dataset:
        """Return the frames of one named split; "all" is every frame.

        Raises:
            BadInput: the data set has no such split.
        """
        if name == ALL:
            return self
        if name not in self.splits:
            raise unknown("split", name, [ALL, *self.splits], where=f"data set {self.spec.name}")
        return self.take(self.splits[name])

    def take(self, chosen: Sequence[int]) -> Dataset:
        """Return the frames with these numbers, in this order; the result has no splits."""
        offsets = self.offsets
        rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in chosen] or [np.zeros(0, np.int64)])
        frames = np.array(chosen, dtype=np.int64)
        charges = self.molecule_charges
        return replace(
            self,
            frames=tuple(self.frames[i] for i in chosen),
            uid=tuple(self.uid[i] for i in chosen),
            energy=self.energy[frames],
            forces=self.forces[rows],
            stress=self.stress[frames],
            has_stress=self.has_stress[frames],
            trajectory=tuple(self.trajectory[i] for i in chosen),
            config_type=tuple(self.config_type[i] for i in chosen),
            splits={},
            molecule=None if self.molecule is None else self.molecule[rows],
            molecule_charges=None if charges is None else tuple(charges[i] for i in chosen),
            energy_intra=None if self.energy_intra is None else self.energy_intra[frames],
            forces_intra=None if self.forces_intra is None else self.forces_intra[rows],
        )
