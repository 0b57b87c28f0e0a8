"""How does a frame become what MACE wants, without MACE's side effects?"""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mlipbench.ace.neighbours import box
from mlipbench.core.model import Float, Int
from mlipbench.errors import ModelFailure, NotApplicable, missing_package

if TYPE_CHECKING:
    import torch
    from ase import Atoms

Graph: TypeAlias = "Mapping[str, torch.Tensor]"
_CHATTER = (
    "The TorchScript type system doesn't support instance-level annotations",
    "Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD detected",
    "`torch.jit.",
    "torch.jit.",
)


@contextmanager
def quiet_mace() -> Iterator[None]:
    """Import MACE and work with it without its side effects.

    Inside, the warnings that TorchScript gives for every network are off. Afterwards the process is as before: MACE
    sets a variable that turns off the safety of every `torch.load`, which is taken back.

    Raises:
        NotApplicable: mace-torch is not installed.
    """
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for text in _CHATTER:
            warnings.filterwarnings("ignore", message=re.escape(text))
        try:
            _import_mace()
        except ModuleNotFoundError as error:
            raise missing_package(error.name or "mace-torch", extra="mace", needed_for="a MACE model") from error
        finally:
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
        yield


def _import_mace() -> None:
    """Import MACE without the lines about accelerators it lacks, which it writes on both channels."""
    if "mace.calculators" in sys.modules:
        return
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        import mace.calculators  # noqa: F401


def place(network: torch.nn.Module, *, device: str, dtype: str) -> torch.nn.Module:
    """Return the network on a device in a precision, ready to predict."""
    import torch

    return network.to(device=device, dtype=getattr(torch, dtype)).eval()


def graph_of(frame: Atoms, *, cutoff_A: float, symbols: Sequence[str], dtype: str, head: int = 0) -> dict[str, Any]:
    """Return one frame as MACE wants it, with tensors on the CPU.

    Args:
        frame: with or without a cell, periodic in any directions.
        cutoff_A: of the neighbour list.
        symbols: elements of the network, in its order; they must cover the frame.
        dtype: "float32" or "float64".
        head: number of the network's head.

    Returns:
        Tensors by MACE's names; "cell" has shape (3, 3), and "edge_index" counts atoms from 0.

    Raises:
        BadInput: the frame is periodic along vectors that span no volume.
        ModelFailure: the atoms lie so far apart that they have no neighbour list.
    """
    import torch

    kind = getattr(torch, dtype)
    edges, unit_shifts, cell = _edges(frame, cutoff_A)
    species = species_of(frame, symbols)
    return {
        "positions": torch.tensor(frame.positions, dtype=kind),
        "node_attrs": torch.nn.functional.one_hot(species, len(symbols)).to(kind),
        "edge_index": torch.tensor(edges, dtype=torch.long),
        "shifts": torch.tensor(unit_shifts @ cell, dtype=kind),
        "unit_shifts": torch.tensor(unit_shifts, dtype=kind),
        "cell": torch.tensor(cell, dtype=kind),
        "head": torch.tensor([head], dtype=torch.long),
        "total_charge": torch.tensor([float(frame.info.get("charge", 0.0))], dtype=kind),
        "total_spin": torch.tensor([float(frame.info.get("spin", 1.0))], dtype=kind),
    }


def species_of(frame: Atoms, symbols: Sequence[str]) -> torch.Tensor:
    """Return each atom's place among the elements of a network, shape (n_atoms,)."""
    import torch

    return torch.tensor([symbols.index(symbol) for symbol in frame.symbols], dtype=torch.long)


def refuse_strange(frame: Atoms, symbols: Sequence[str], *, where: str) -> None:
    """Refuse a frame with an element that a network does not cover.

    Raises:
        NotApplicable: it holds one.
    """
    missing = sorted(set(frame.symbols) - set(symbols))
    if missing:
        raise NotApplicable(f"{where} does not cover {', '.join(missing)}; it covers {', '.join(symbols)}")


def _edges(frame: Atoms, cutoff_A: float) -> tuple[Int, Int, Float]:
    """Return pairs, shape (2, n_edges), the images of the second atom, shape (n_edges, 3), and the cell they count in.

    MACE's own function searches a cube around the origin that holds all atoms, and runs out of memory when they are
    a few hundred Å away from it.
    """
    from matscipy.neighbours import neighbour_list

    cell, origin = box(frame.positions, np.asarray(frame.cell.array, dtype=np.float64), frame.pbc, cutoff_A)
    try:
        first, second, images = neighbour_list(
            "ijS", cutoff=cutoff_A, positions=frame.positions, cell=cell, pbc=frame.pbc, cell_origin=origin
        )
    except (RuntimeError, ValueError, MemoryError, SystemError) as error:  # how its compiled code fails
        raise ModelFailure(f"no neighbour list within {cutoff_A} Å can be made: {error}") from error
    return np.stack([first, second]).astype(np.int64), images.astype(np.int64), cell


def collate(graphs: Sequence[Graph], *, device: str) -> dict[str, Any]:
    """Join frames into one graph of separate parts, on the device."""
    import torch

    sizes = torch.tensor([len(graph["positions"]) for graph in graphs])
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])
    joined = {name: torch.cat([graph[name] for graph in graphs]) for name in graphs[0] if name != "edge_index"}
    joined["edge_index"] = torch.cat(
        [graph["edge_index"] + first for graph, first in zip(graphs, ptr[:-1], strict=True)], dim=1
    )
    joined["ptr"] = ptr
    joined["batch"] = torch.repeat_interleave(torch.arange(len(graphs)), sizes)
    return {name: tensor.to(device) for name, tensor in joined.items()}
