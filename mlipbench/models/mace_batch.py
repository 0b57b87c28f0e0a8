"""A MACE network asked again and again about the same systems while their atoms move.

Species, edges and images stay on the device until a neighbour list is searched anew; only positions and cells go
there, and only energies and forces come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.dynamics import Forces
from mlipbench.core.model import Float, Int
from mlipbench.models.mace import MaceModel
from mlipbench.models.mace_graph import refuse_strange, species_of
from mlipbench.models.moving import Moving

if TYPE_CHECKING:
    import torch
    from ase import Atoms

    from mlipbench.ace.neighbours import Neighbours

SHARE_OF_FREE_MEMORY: Final = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Replicas that go through the network together, and what of them stays on the device.

    Attributes:
        first, last: range of replicas.
        lists: the neighbour lists the edges were made of.
        fixed: tensors that do not change while atoms move.
        edges: shape (2, n_listed), atoms of this part.
        images: shape (n_listed, 3).
        owner: shape (n_listed,), replica of each edge, from 0.
    """

    first: int
    last: int
    lists: tuple[Neighbours, ...]
    fixed: Mapping[str, torch.Tensor]
    edges: torch.Tensor
    images: torch.Tensor
    owner: torch.Tensor


class MaceBatch(Moving):
    """Keeps graphs on the device; replicas go through the network together, as many as there is memory for."""

    def __init__(self, model: MaceModel, frames: Sequence[Atoms]) -> None:
        """Copy the frames.

        Raises:
            NotApplicable: a frame holds an element the network does not cover.
        """
        super().__init__(frames, float(model.network.r_max))
        for number, frame in enumerate(self.frames):
            refuse_strange(frame, model.covered, where=f"frame {number}: the MACE model {model.spec.name}")
        self._model = model
        self._room: int | None = None if model.device.startswith("cuda") else model.batch_atoms
        self._parts: list[_Part] = []

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        """Return energies, forces and, where wanted, virials; numbers come back in double precision."""
        self.move(positions, cells)
        lists = [known.listed(frame) for known, frame in zip(self.lists, self.frames, strict=True)]
        if self._room is None:
            self._room = self._measured_room(lists)
        self._renew(lists)
        energy, forces = np.zeros(len(self.frames)), np.zeros((len(positions), 3))
        virial = np.zeros((len(self.frames), 3, 3)) if with_virial else None
        for part in self._parts:
            atoms = slice(self.offsets[part.first], self.offsets[part.last])
            own = slice(part.first, part.last)
            answer = self._model.ask(
                self._graph(part, positions[atoms], cells[own]),
                has_stress=with_virial,
                where=f"replicas {part.first} to {part.last - 1}",
            )
            energy[own], forces[atoms] = answer["energy"], answer["forces"]
            if virial is not None:
                virial[own] = answer["stress"] * np.abs(np.linalg.det(cells[own]))[:, None, None]
        return Forces(energy=energy, forces=forces, virial=virial)

    def keep(self, chosen: Int) -> None:
        """Go on with some replicas only."""
        super().keep(chosen)
        self._parts = []

    def memory(self) -> dict[str, Float]:
        """Return where neighbours were searched, and how many atoms go through the network together."""
        room = {} if self._room is None else {"room_atoms": np.array([float(self._room)])}
        return super().memory() | room

    def recall(self, memory: Mapping[str, Float]) -> None:
        """Take back what `memory` returned."""
        super().recall(memory)
        if "room_atoms" in memory:
            self._room = int(memory["room_atoms"][0])

    def _renew(self, lists: Sequence[Neighbours]) -> None:
        """Make the parts whose neighbour lists are new."""
        if not self._parts:
            self._parts = [self._part(first, last, lists) for first, last in self._ranges()]
            return
        self._parts = [
            part
            if all(one is other for one, other in zip(part.lists, lists[part.first : part.last], strict=True))
            else self._part(part.first, part.last, lists)
            for part in self._parts
        ]

    def _ranges(self) -> list[tuple[int, int]]:
        """Cut the replicas into groups of as many atoms as there is room for, and one replica at least."""
        found, first = [], 0
        for i in range(len(self.frames)):
            if i > first and self.offsets[i + 1] - self.offsets[first] > (self._room or 0):
                found.append((first, i))
                first = i
        return [*found, (first, len(self.frames))]

    def _part(self, first: int, last: int, lists: Sequence[Neighbours]) -> _Part:
        import torch

        model, own = self._model, lists[first:last]
        starts = self.offsets[first:last] - self.offsets[first]
        centre = [np.repeat(np.arange(len(one.start) - 1), np.diff(one.start)) for one in own]
        edges = np.concatenate(
            [np.stack([i, one.index]) + start for i, one, start in zip(centre, own, starts, strict=True)], axis=1
        )
        sizes = torch.from_numpy(np.diff(self.offsets[first : last + 1]))
        kind, n = getattr(torch, model.dtype), last - first
        species = torch.cat([species_of(frame, model.covered) for frame in self.frames[first:last]])
        info = [frame.info for frame in self.frames[first:last]]
        fixed = {
            "node_attrs": torch.nn.functional.one_hot(species, len(model.covered)).to(kind),
            "head": torch.full((n,), model.head, dtype=torch.long),
            "total_charge": torch.tensor([float(one.get("charge", 0.0)) for one in info], dtype=kind),
            "total_spin": torch.tensor([float(one.get("spin", 1.0)) for one in info], dtype=kind),
            "ptr": torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)]),
            "batch": torch.repeat_interleave(torch.arange(n), sizes),
        }
        return _Part(
            first,
            last,
            tuple(own),
            {name: tensor.to(model.device) for name, tensor in fixed.items()},
            torch.from_numpy(edges).to(model.device),
            torch.from_numpy(np.concatenate([one.shift for one in own])).to(model.device, kind),
            torch.from_numpy(np.repeat(np.arange(n), [len(one.index) for one in own])).to(model.device),
        )

    def _graph(self, part: _Part, positions: Float, cells: Float) -> dict[str, Any]:
        """Return the graph now: listed pairs within the cutoff."""
        import torch

        kind = part.images.dtype
        # Distances do not change when a molecule far away is looked at from nearby, but its digits do.
        centres = np.repeat(
            np.floor([frame.positions.mean(axis=0) for frame in self.frames[part.first : part.last]]),
            np.diff(self.offsets[part.first : part.last + 1]),
            axis=0,
        )
        where = torch.from_numpy(positions - centres).to(self._model.device, kind)
        periodic = np.array([frame.pbc for frame in self.frames[part.first : part.last]])[:, :, None]
        cell = torch.from_numpy(np.where(periodic, cells, 0.0)).to(self._model.device, kind)
        shifts = torch.einsum("pi,pij->pj", part.images, cell[part.owner])
        vectors = where[part.edges[1]] - where[part.edges[0]] + shifts
        near = (vectors * vectors).sum(dim=1) < float(self._model.network.r_max) ** 2
        return {
            **part.fixed,
            "positions": where,
            "cell": cell.reshape(-1, 3),
            "edge_index": part.edges[:, near],
            "shifts": shifts[near],
            "unit_shifts": part.images[near],
        }

    def _measured_room(self, lists: Sequence[Neighbours]) -> int:
        """Return how many atoms fit into the memory of the GPU that is free now, as the first replica tells."""
        import torch

        device = self._model.device
        n = int(self.offsets[1])
        part = self._part(0, 1, lists)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        graph = self._graph(part, self.frames[0].positions, np.array([self.frames[0].cell.array]))
        self._model.ask(graph, has_stress=bool(self.frames[0].pbc.all()), where="replica 0")
        used = torch.cuda.max_memory_allocated(device) - before
        return room_atoms(free_bytes=torch.cuda.mem_get_info(device)[0], used_bytes=used, n_atoms=n)


def room_atoms(*, free_bytes: int, used_bytes: int, n_atoms: int) -> int:
    """Return how many atoms a call may have, when one with `n_atoms` took `used_bytes`.

    >>> room_atoms(free_bytes=10**9, used_bytes=10**7, n_atoms=160)
    9600
    """
    return max(n_atoms, int(SHARE_OF_FREE_MEMORY * free_bytes / max(used_bytes, 1) * n_atoms))
