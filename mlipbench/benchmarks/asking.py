"""How is a model asked for matter in vacuum, so that one frame, or a cell that it needs, does not cost the others?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from mlipbench.benchmarks.frames import predict
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Int, Model, Predictions
from mlipbench.errors import ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

VACUUM_A: Final = 20.0  # to the next image; beyond the reach of what needs a cell only to be called
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_wide_cell(atoms: Atoms, *, vacuum_A: float = VACUUM_A) -> Atoms:
    """Return a copy in the middle of a cell of three periods, with so much vacuum between it and its images.

    >>> from ase import Atoms
    >>> boxed = in_wide_cell(Atoms("CO", [[0, 0, 0], [1.1, 0, 0]]))
    >>> boxed.cell.lengths().round(6).tolist(), bool(boxed.pbc.all()), round(float(boxed.get_distance(0, 1)), 6)
    ([21.1, 20.0, 20.0], True, 1.1)
    """
    boxed = atoms.copy()
    boxed.set_constraint()
    edges_A = np.ptp(atoms.positions, axis=0) + vacuum_A
    boxed.set_cell(np.diag(edges_A), scale_atoms=False)
    boxed.set_pbc(True)
    # By whole numbers, so that the digits of positions, and with them round-off, stay those of the frame.
    boxed.positions = atoms.positions + np.round(vacuum_A / 2.0 - atoms.positions.min(axis=0))
    return boxed


def predict_pieces(model: Model, frames: Sequence[Atoms], context: Context, *, remark: str) -> Predictions:
    """Predict frames, and where the model fails on them, those without a cell once more in a wide one.

    Many calculators divide by a volume, or look for neighbours in a cell only. Matter in so much vacuum is the same.
    All frames are asked in one way, as differences between them are what counts.

    Raises:
        ModelFailure: the model fails in a cell too; what it said without one.
        NotApplicable: a frame holds what the model does not cover.
    """
    try:
        return predict(model, frames, context, remark=remark)
    except ModelFailure as failure:
        if all(atoms.pbc.any() for atoms in frames):
            raise
        try:
            boxed = [atoms if atoms.pbc.any() else in_wide_cell(atoms) for atoms in frames]
            return predict(model, boxed, context, remark=f"{remark}, in a wide cell")
        except (ModelFailure, NotApplicable):
            raise failure from None


def all_or_each(
    ask: Callable[[Sequence[Item]], Sequence[Answer]], items: Sequence[Item]
) -> list[Answer | ModelFailure]:
    """Return the answer to each item: all asked for at once and, where the model fails on that, one by one.

    Args:
        ask: returns one answer for each item, or raises.
        items: what to ask for.

    Raises:
        NotApplicable: the model does not cover them.
    """
    try:
        return list(ask(items))
    except ModelFailure as failure:
        if len(items) == 1:
            return [failure]
    found: list[Answer | ModelFailure] = []
    for item in items:
        try:
            found += ask([item])
        except ModelFailure as failure:
            found.append(failure)
    return found


def predict_inward(
    model: Model, frames: Sequence[Atoms], context: Context, *, remark: str
) -> tuple[int, Predictions | None, ModelFailure | None]:
    """Predict a curve of frames, from the compressed to the expanded end, as far in as the model answers.

    Returns:
        The number of the innermost frame that it answers for, with all farther out; what it says of these, or None
        where it fails on the outermost; and what it failed with, or None.

    Raises:
        NotApplicable: a frame holds what the model does not cover.
    """
    try:
        return 0, predict_pieces(model, frames, context, remark=remark), None
    except ModelFailure as failure:
        last = failure
    first = len(frames)
    while first > 0:
        try:
            predict_pieces(model, frames[first - 1 : first], context, remark=remark)
        except ModelFailure as failure:
            last = failure
            break
        first -= 1
    if first == len(frames):
        return first, None, last
    return first, predict_pieces(model, frames[first:], context, remark=remark), last


def smallest_frames(data: Dataset, numbers: Int, *, n_frames: int) -> Int:
    """Return the numbers of the smallest of some frames, ascending; lone atoms in vacuum are none.

    Args:
        data: to choose from.
        numbers: shape (n,), of the frames to choose among.
        n_frames: how many, at most.

    Raises:
        NotApplicable: all are lone atoms.
    """
    sizes = data.n_atoms
    fit = [k for k in numbers.tolist() if sizes[k] > 1 or data.frames[k].pbc.any()]
    if not fit:
        raise NotApplicable(f"data set {data.spec.name} has only lone atoms in vacuum here; nothing to move apart")
    return np.array(sorted(sorted(fit, key=lambda k: (int(sizes[k]), k))[:n_frames]), dtype=np.int64)


def limit_weights(x: Float) -> Float:
    """Return weights whose sum with values at places x is the value at x = 0 of the polynomial through them.

    With x = 1 / distance, what decays as powers of the distance below their number is taken off exactly.

    Args:
        x: shape (n,), different from each other.

    Source: Lagrange's interpolation; L. F. Richardson, Phil. Trans. R. Soc. A 210, 307 (1911).

    >>> (3.0 * limit_weights(np.array([4.0, 2.0, 1.0]))).round(12).tolist()
    [1.0, -6.0, 8.0]
    """
    weights = np.ones(len(x))
    for k in range(len(x)):
        others = np.delete(x, k)
        weights[k] = np.prod(others / (others - x[k]))
    return weights
