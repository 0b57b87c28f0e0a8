"""Many frames as one on a torch device: which device, in what precision, and who is whose neighbour, in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from mlipbench.ace.basis import Basis
from mlipbench.ace.neighbours import Neighbours, neighbours
from mlipbench.ace.potential import species_of
from mlipbench.core.model import Float, Int
from mlipbench.errors import BadInput, ModelFailure, NotApplicable, missing_package, unknown

if TYPE_CHECKING:
    import torch
    from ase import Atoms

DEVICES: Final = ("cpu", "cuda")
DTYPES: Final = ("float64", "float32")
# Scratch memory of one chunk: about what a processor caches, and enough to keep a GPU busy.
CPU_CHUNK_BYTES: Final = 32 * 2**20
GPU_CHUNK_BYTES: Final = 2**30


def check_device(device: str, *, where: str) -> None:
    """Refuse a device that is not there.

    Args:
        device: "cpu", "cuda", or a GPU's number as in "cuda:1".
        where: put in front of the sentence.

    Raises:
        BadInput: there is no such kind of device.
        NotApplicable: torch is not installed, or finds no such GPU.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing_package("torch", extra="mace", needed_for=f"{where} on the device '{device}'") from error
    kind, colon, number = device.partition(":")
    if kind not in DEVICES or (colon and not (kind == "cuda" and number.isdecimal())):
        raise unknown("device", device, DEVICES, where=where)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= count:
        found = f"finds {count}, counted from 0" if count else "finds no GPU"
        raise NotApplicable(f"{where}: the device '{device}' was asked for, and torch {found}")


def origin(device: str, dtype: str) -> torch.Tensor:
    """Return a number on the device in the precision, which others are made like.

    Raises:
        BadInput: there is no such precision or kind of device.
        NotApplicable: torch is not installed, or finds no such GPU.
    """
    check_device(device, where="ACE")
    import torch

    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES, where="ACE")
    return torch.zeros((), device=device, dtype=getattr(torch, dtype))


def room(chunk_bytes: int | None, like: torch.Tensor) -> int:
    """Return the bytes of a chunk."""
    if chunk_bytes is None:
        return CPU_CHUNK_BYTES if like.device.type == "cpu" else GPU_CHUNK_BYTES
    if chunk_bytes <= 0:
        raise BadInput(f"ACE: chunk_bytes is {chunk_bytes}; it must be a positive number of bytes")
    return chunk_bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Atoms and pairs of many frames; centres are sorted by element, then by neighbours, pairs by neighbour element.

    Attributes:
        sizes: shape (n_frames,), atoms of each frame.
        frame: shape (n_atoms,), frame of each atom, in the order of the frames.
        centre: shape (n_atoms,), atom that each sorted centre is.
        element: shape (n_atoms,), of each sorted centre, its place in the basis.
        start: shape (n_atoms + 1,), first pair of each sorted centre.
        index: shape (n_pairs,), the neighbour, counted over all frames.
        neighbour_element: shape (n_pairs,).
        vector: shape (n_pairs, 3), Å.
    """

    sizes: Int
    frame: Int
    centre: Int
    element: Int
    start: Int
    index: Int
    neighbour_element: Int
    vector: Float


class Chunk(NamedTuple):
    """Some centres of one element and their pairs, on the device.

    Attributes:
        element: of all centres, its place in the basis.
        centre: shape (m,), their atoms.
        frame: shape (m,), their frames.
        owner: shape (p,), the centre of each pair, from 0 to m - 1, ascending.
        index: shape (p,), the neighbour.
        neighbour_element: shape (p,), ascending for each owner.
        vector: shape (p, 3), Å.
    """

    element: int
    centre: torch.Tensor
    frame: torch.Tensor
    owner: torch.Tensor
    index: torch.Tensor
    neighbour_element: torch.Tensor
    vector: torch.Tensor


def join(basis: Basis, frames: Sequence[Atoms], pairs: Sequence[Neighbours] | None) -> Batch:
    """Return the atoms and pairs of many frames as one.

    Raises:
        BadInput: positions or a cell make no sense, or `pairs` has another length than `frames`.
        ModelFailure: two atoms lie on top of each other.
        NotApplicable: a frame holds an element outside the basis.
    """
    if pairs is not None and len(pairs) != len(frames):
        raise BadInput(f"the ACE was given {len(pairs)} neighbour lists for {len(frames)} frames")
    found, species = [], []
    for i, frame in enumerate(frames):
        try:
            species.append(species_of(frame, basis.numbers))
            found.append(neighbours(frame, basis.cutoff_A) if pairs is None else pairs[i])
        except (BadInput, ModelFailure, NotApplicable) as error:
            raise type(error)(f"frame {i}: {error}") from error
    sizes = np.array([len(frame) for frame in frames], dtype=np.int64)
    first = np.cumsum(sizes) - sizes
    whole = _joined(species)
    count = _joined([np.diff(one.start) for one in found])
    index = _joined([one.index + offset for one, offset in zip(found, first, strict=True)])
    centre = np.lexsort((count, whole))
    place = np.empty_like(centre)
    place[centre] = np.arange(len(centre))
    order = np.lexsort((whole[index], np.repeat(place, count)))
    return Batch(
        sizes=sizes,
        frame=np.repeat(np.arange(len(frames)), sizes),
        centre=centre,
        element=whole[centre],
        start=np.concatenate([[0], np.cumsum(count[centre])]),
        index=index[order],
        neighbour_element=whole[index[order]],
        vector=np.concatenate([np.zeros((0, 3)), *(one.vector for one in found)])[order],
    )


def _joined(parts: Sequence[Int]) -> Int:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def chunks(batch: Batch, like: torch.Tensor, *, centre_bytes: int, pair_bytes: int, limit: int) -> Iterator[Chunk]:
    """Yield all centres, as many of one element at a time as fit into a number of bytes, and one at least.

    Args:
        batch: what to cut.
        like: a tensor whose device and precision the chunks get.
        centre_bytes: needed for a centre.
        pair_bytes: needed for a pair.
        limit: bytes of a chunk.
    """
    import torch

    def numbers(values: Int) -> torch.Tensor:
        return torch.from_numpy(values).to(like.device)

    count = np.diff(batch.start)
    cost = np.cumsum(centre_bytes + pair_bytes * count)
    low = 0
    while low < len(count):
        spent = int(cost[low - 1]) if low else 0
        same = int(np.searchsorted(batch.element, batch.element[low], side="right"))
        high = min(max(low + 1, int(np.searchsorted(cost, spent + limit, side="right"))), same)
        atoms, pairs = batch.centre[low:high], slice(int(batch.start[low]), int(batch.start[high]))
        yield Chunk(
            element=int(batch.element[low]),
            centre=numbers(atoms),
            frame=numbers(batch.frame[atoms]),
            owner=numbers(np.repeat(np.arange(high - low), count[low:high])),
            index=numbers(batch.index[pairs]),
            neighbour_element=numbers(batch.neighbour_element[pairs]),
            vector=torch.from_numpy(batch.vector[pairs]).to(like),
        )
        low = high
