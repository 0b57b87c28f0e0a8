"""Which frames are asked, and what did the model say of them?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Int, Model, Predictions
from mlipbench.errors import BadInput, MissingPackage, ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

FRAMES_PER_CALL = 64


def spread_out(data: Dataset, max_frames: int | None) -> Int:
    """Return frame numbers, ascending: all, or evenly spaced over configuration types and trajectories.

    Args:
        data: to choose from.
        max_frames: upper bound; None for all.

    Returns:
        Shape (n_chosen,); the same for the same data.

    Raises:
        BadInput: no frames are asked for.
        NotApplicable: there are no frames.
    """
    if max_frames is not None and max_frames < 1:
        raise BadInput(f"max_frames is {max_frames}; it must be 1 or more, or left out for all frames")
    if not len(data):
        raise NotApplicable(f"data set {data.spec.name} has no frames here, so there is nothing to measure")
    n_frames = len(data) if max_frames is None else min(max_frames, len(data))
    order = sorted(range(len(data)), key=lambda i: (data.config_type[i], data.trajectory[i], i))
    steps = np.floor((np.arange(n_frames) + 0.5) * len(data) / n_frames).astype(np.int64)
    return np.sort(np.array(order, dtype=np.int64)[steps])


def predict(model: Model, frames: Sequence[Atoms], context: Context, *, remark: str) -> Predictions:
    """Predict all frames, some at a time, and report progress.

    Raises:
        ModelFailure: the model is at fault.
        NotApplicable: a frame holds what the model does not cover.
    """
    parts = []
    for start in range(0, len(frames), FRAMES_PER_CALL):
        context.progress(start, len(frames), remark)
        parts.append(model.predict(frames[start : start + FRAMES_PER_CALL]))
    context.progress(len(frames), len(frames), remark)
    return together(parts)


def predict_all(model: Model, frames: Sequence[Atoms], context: Context, *, remark: str) -> Predictions:
    """Predict frames of which none may be left out.

    A model that refuses some frames and answers others of the same elements covers them all: what it refuses is its
    failure, as it must not choose what it is judged by. One that answers none, such as a force field of other
    molecules, covers nothing here.

    Raises:
        ModelFailure: the model is at fault, or refuses frames of elements that it has answered for.
        NotApplicable: it covers none of the frames, or not all of their elements.
    """
    try:
        return predict(model, frames, context, remark=remark)
    except MissingPackage:
        raise
    except NotApplicable as refusal:
        answered: set[str] = set()
        refused: list[set[str]] = []
        for atoms in frames:
            try:
                model.predict([atoms])
                answered |= set(atoms.symbols)
            except NotApplicable:
                refused.append(set(atoms.symbols))
            if any(symbols <= answered for symbols in refused):
                raise ModelFailure(f"the model answers for these elements and refuses some frames: {refusal}") from None
        raise


def together(parts: Sequence[Predictions]) -> Predictions:
    """Return the answers to several calls as those to one."""
    return Predictions(
        n_atoms=np.concatenate([part.n_atoms for part in parts]),
        energy=np.concatenate([part.energy for part in parts]),
        forces=np.concatenate([part.forces for part in parts]),
        stress=np.concatenate([part.stress for part in parts]),
        has_stress=np.concatenate([part.has_stress for part in parts]),
    )
