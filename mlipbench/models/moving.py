"""The same systems asked again and again: frames whose atoms move, and their neighbour lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.ace.neighbours import SkinList
from mlipbench.core.model import Float, Int

if TYPE_CHECKING:
    from ase import Atoms


class Moving:
    """Copies of some frames, moved to where they are asked for, each with a neighbour list of its own.

    Attributes:
        frames: the copies.
        lists: their neighbour lists.
        offsets: shape (n_frames + 1,), first atom of each.
    """

    def __init__(self, frames: Sequence[Atoms], cutoff_A: float, *, skin_A: float = 0.5) -> None:
        """Copy the frames."""
        self.frames = [frame.copy() for frame in frames]
        self.lists = [SkinList(cutoff_A, skin_A=skin_A) for _ in frames]
        self.offsets = _offsets(self.frames)

    def move(self, positions: Float, cells: Float) -> None:
        """Put atoms and cells where they are now."""
        for frame, cell, first, last in zip(self.frames, cells, self.offsets[:-1], self.offsets[1:], strict=True):
            frame.positions = positions[first:last]
            if frame.pbc.any():
                frame.cell.array[:] = cell

    def keep(self, chosen: Int) -> None:
        """Go on with some frames only."""
        self.frames = [self.frames[i] for i in chosen]
        self.lists = [self.lists[i] for i in chosen]
        self.offsets = _offsets(self.frames)

    def memory(self) -> dict[str, Float]:
        """Return where neighbours were searched: the order of pairs, and so of sums, depends on it."""
        found = {}
        for i, known in enumerate(self.lists):
            if known.searched is not None:
                found[f"searched_positions_{i}"] = known.searched.positions
                found[f"searched_cell_{i}"] = known.searched.cell.array
        return found

    def recall(self, memory: Mapping[str, Float]) -> None:
        """Search again where it was searched before."""
        for i, frame in enumerate(self.frames):
            if f"searched_positions_{i}" in memory:
                frame.positions = memory[f"searched_positions_{i}"]
                frame.cell.array[:] = memory[f"searched_cell_{i}"]
                self.lists[i].listed(frame)


def _offsets(frames: Sequence[Atoms]) -> Int:
    return np.concatenate([[0], np.cumsum([len(frame) for frame in frames])]).astype(np.int64)
