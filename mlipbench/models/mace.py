"""A MACE checkpoint is a model."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.ace.torch_batch import check_device
from mlipbench.core.model import Bool, Float, ModelSpec, Predictions
from mlipbench.errors import BadInput, ModelFailure, NotApplicable, unknown
from mlipbench.models import checkpoint
from mlipbench.models.mace_graph import Graph, collate, graph_of, place, quiet_mace, refuse_strange

if TYPE_CHECKING:
    import torch
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mlipbench.models.mace_batch import MaceBatch

OPTIONS: Final = ("batch_atoms", "cuequivariance", "dtype", "head")
DTYPES: Final = ("float32", "float64")
# Atoms per batch: enough to hide the cost of a call, few enough for memory.
BATCH_ATOMS: Final = {"cpu": 512, "cuda": 8192}
EDGES_PER_ATOM = 60  # a batch also ends at this many neighbours per atom it may hold: edges are what takes memory


def load(spec: ModelSpec, *, device: str) -> MaceModel:
    """Read a checkpoint of mace-torch.

    A checkpoint is a pickle, and unpickling runs code: the file is read only because the user named it, and where the
    spec holds its sha256 only if it is that very file. Options are "dtype" ("float32" or "float64"; the network's own
    when not given), "batch_atoms", "head", and "cuequivariance": true for faster kernels in dynamics, see `mace_cueq`.

    Raises:
        BadInput: the file is missing, is not the one the spec names, or holds no MACE network; or an option is wrong.
        NotApplicable: mace-torch is not installed, or there is no such device.
    """
    for name in spec.options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS, where=f"model {spec.name}")
    content = checkpoint.read(spec, what="a MACE model")
    with quiet_mace():
        check_device(device, where="MACE")
        network = _unpickle(content, str(spec.checkpoint))
        own = str(next(network.parameters()).dtype).removeprefix("torch.")
        dtype = str(spec.options.get("dtype", own))
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES, where=f"model {spec.name}")
        network = place(network, device=device, dtype=dtype)
    covered = symbols_of(network)
    return MaceModel(
        spec=replace(spec, elements=covered) if spec.elements is None else spec,
        network=network, device=device, dtype=dtype, head=_head(network, spec),
        batch_atoms=_batch_atoms(spec, device),
    )  # fmt: skip


def _batch_atoms(spec: ModelSpec, device: str) -> int:
    """Return how many atoms a batch may have."""
    given = spec.options.get("batch_atoms", BATCH_ATOMS[device.partition(":")[0]])
    if type(given) is not int or given < 1:
        raise BadInput(f"model {spec.name}: batch_atoms = {given!r}; a whole number of at least 1 is needed.")
    return given


def _unpickle(content: bytes, path: str) -> torch.nn.Module:
    """Make the network; every way in which a foreign file can fail is one sentence."""
    from pickle import UnpicklingError  # the exception; torch does the reading

    import torch

    try:
        network = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except (
        RuntimeError, EOFError, UnpicklingError, OSError, LookupError, AttributeError, ImportError, ValueError,
        TypeError,
    ) as error:  # fmt: skip
        raise BadInput(
            f"{path} cannot be read by the installed mace-torch: {type(error).__name__}: {error}."
        ) from error
    if not all(hasattr(network, name) for name in ("r_max", "atomic_numbers", "atomic_energies_fn", "interactions")):
        raise BadInput(f"{path} holds an object of type {type(network).__name__}; a MACE network is needed.")
    return network


def symbols_of(network: torch.nn.Module) -> tuple[str, ...]:
    """Return the chemical symbols a network covers."""
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[int(number)] for number in network.atomic_numbers)


def _head(network: torch.nn.Module, spec: ModelSpec) -> int:
    """Return the number of the head that answers: the one asked for, the only one, or the one called default."""
    heads = list(getattr(network, "heads", None) or ["Default"])
    wanted = spec.options.get("head")
    if wanted is None:
        wanted = next((head for head in heads if len(heads) == 1 or head.lower() == "default"), "")
    if wanted not in heads:
        raise unknown("head", str(wanted), heads, where=f"model {spec.name}")
    return heads.index(wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaceModel:
    """A MACE network that predicts many frames at once.

    Attributes:
        spec: what it takes to make it again.
        network: in evaluation mode, on its device.
        device: "cpu" or "cuda".
        dtype: "float32" or "float64", of the network.
        head: number of the head that answers.
        batch_atoms: atoms per batch; one frame may have more.
    """

    spec: ModelSpec
    network: torch.nn.Module
    device: str
    dtype: str
    head: int
    batch_atoms: int

    def calculator(self) -> Calculator:
        """Return an ASE calculator around the same network; it answers as `predict` does.

        MACE's own calculator adds energies up in the network's precision, computes a stress whether it is asked for
        or not, and fails on molecules far from the origin.
        """
        return _calculator(self)

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict all frames in batches of bounded size; a stress for frames periodic in all three directions.

        Raises:
            ModelFailure: the network failed, or returned a number that is not finite.
            NotApplicable: a frame holds an element the network does not cover.
        """
        n_atoms = np.array([len(frame) for frame in frames], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(n_atoms)])
        has_stress = np.array([bool(frame.pbc.all()) for frame in frames], dtype=bool)
        energy, forces = np.zeros(len(frames)), np.zeros((int(n_atoms.sum()), 3))
        stress = np.zeros((len(frames), 3, 3))
        for chosen, answer in self.answers(frames, has_stress):
            rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in chosen])
            energy[chosen] = answer["energy"]
            forces[rows] = answer["forces"]
            if has_stress[chosen[0]]:
                stress[chosen] = answer["stress"]
        return Predictions(n_atoms=n_atoms, energy=energy, forces=forces, stress=stress, has_stress=has_stress)

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        """Return the energy of each atom in eV, shape (n_atoms_total,), frame after frame.

        Raises:
            NotApplicable: the network's energy is not a sum over atoms.
        """
        if not adds_up(self.network):
            raise NotApplicable(f"the energy of a {type(self.network).__name__} is not a sum over its atoms")
        parts: dict[int, Float] = {}
        for chosen, answer in self.answers(frames, np.zeros(len(frames), dtype=bool)):
            parts |= dict(zip(chosen, np.split(answer["sites"], answer["ends"]), strict=True))
        return np.concatenate([np.zeros(0), *(parts[i] for i in range(len(frames)))])

    def answers(
        self, frames: Sequence[Atoms], with_stress: Sequence[bool] | Bool
    ) -> Iterator[tuple[list[int], dict[str, Float]]]:
        """Give frame numbers and their answers, batch by batch; a batch has a stress or has none."""
        covered = self.covered
        for i, frame in enumerate(frames):
            refuse_strange(frame, covered, where=f"frame {i}: the MACE model {self.spec.name}")
        for is_periodic in (False, True):
            todo = [i for i in range(len(frames)) if with_stress[i] == is_periodic and len(frames[i])]
            for chosen, graphs in self._batches(frames, todo, covered):
                yield chosen, self._ask(chosen, graphs, has_stress=is_periodic)

    def _batches(
        self, frames: Sequence[Atoms], todo: Sequence[int], covered: Sequence[str]
    ) -> Iterator[tuple[list[int], list[Graph]]]:
        """Group frames until atoms or edges reach their bound."""
        cutoff_A = float(self.network.r_max)
        chosen: list[int] = []
        graphs: list[Graph] = []
        n_atoms = n_edges = 0
        for i in todo:
            graph = graph_of(frames[i], cutoff_A=cutoff_A, symbols=covered, dtype=self.dtype, head=self.head)
            atoms, edges = len(frames[i]), graph["edge_index"].shape[1]
            is_full = n_atoms + atoms > self.batch_atoms or n_edges + edges > EDGES_PER_ATOM * self.batch_atoms
            if chosen and is_full:
                yield chosen, graphs
                chosen, graphs, n_atoms, n_edges = [], [], 0, 0
            chosen.append(i)
            graphs.append(graph)
            n_atoms, n_edges = n_atoms + atoms, n_edges + edges
        if chosen:
            yield chosen, graphs

    def _ask(self, chosen: list[int], graphs: Sequence[Graph], *, has_stress: bool) -> dict[str, Float]:
        """Run the network once on some frames."""
        where = f"frames {chosen[0]} to {chosen[-1]}"
        return self.ask(collate(graphs, device=self.device), has_stress=has_stress, where=where)

    def ask(self, graph: Graph, *, has_stress: bool, where: str) -> dict[str, Float]:
        """Run the network once on a joined graph; numbers come back in double precision.

        Args:
            graph: as `mace_graph.collate` returns it, on the device.
            has_stress: is the stress wanted too?
            where: put in front of an error.

        Returns:
            "energy" (n,), "forces" (n_atoms, 3), "sites" (n_atoms,), "ends" (n - 1,), and "stress" (n, 3, 3).

        Raises:
            ModelFailure: the network failed.
        """
        ends = graph["ptr"][1:-1].cpu().numpy()
        try:
            answer = self.network(dict(graph), training=False, compute_force=True, compute_stress=has_stress)
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise ModelFailure(f"{where}: {type(error).__name__}: {error}") from error
        found: dict[str, Float] = {
            name: answer[key].detach().double().cpu().numpy()
            for name, key in (("energy", "energy"), ("forces", "forces"), ("sites", "node_energy"))
        }
        found["ends"] = ends
        if adds_up(self.network):
            # The network adds up in its own precision: in single, 1e-3 eV are lost in a box of 160 atoms.
            found["energy"] = np.array([part.sum() for part in np.split(found["sites"], ends)])
        if has_stress:
            found["stress"] = answer["stress"].detach().double().cpu().numpy()
        return found

    def atom_energies(self) -> dict[str, float]:
        """Return the energy in eV of a lone atom of each element, as the network keeps it."""
        kept = self.network.atomic_energies_fn.atomic_energies.detach().double().cpu().numpy()
        of_head = np.atleast_2d(kept)[min(self.head, len(np.atleast_2d(kept)) - 1)]
        return dict(zip(self.covered, of_head.tolist(), strict=True))

    def in_precision(self, dtype: str) -> MaceModel:
        """Return the same network in "float32" or "float64"."""
        if dtype == self.dtype:
            return self
        with quiet_mace():
            network = place(copy.deepcopy(self.network), device=self.device, dtype=dtype)
        return replace(self, network=network, dtype=dtype)

    @property
    def covered(self) -> tuple[str, ...]:
        """Chemical symbols of the network, in its order."""
        return symbols_of(self.network)

    def batch(self, frames: Sequence[Atoms]) -> MaceBatch:
        """Return what evaluates these frames again and again while their atoms move.

        Raises:
            NotApplicable: a frame holds an element the network does not cover.
        """
        from mlipbench.models.mace_batch import MaceBatch

        if self.spec.options.get("cuequivariance"):
            from mlipbench.models.mace_cueq import accelerated

            return MaceBatch(accelerated(self, frames), frames)
        return MaceBatch(self, frames)


def adds_up(network: torch.nn.Module) -> bool:
    """Tell whether the network's energy is the sum of the energies it gives for each atom."""
    return type(network).__name__ in ("MACE", "ScaleShiftMACE") and not hasattr(network, "embedding_readout")


def _calculator(model: MaceModel) -> Calculator:
    """Return the calculator; the class is made here so that ASE is imported late."""
    from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    class MaceCalculator(Calculator):  # type: ignore[misc]
        """A MACE network for ASE; the stress is computed only when it is asked for."""

        implemented_properties: Final = ["energy", "free_energy", "energies", "forces", "stress"]
        elements = symbols_of(model.network)

        def calculate(
            self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
        ) -> None:
            """Fill `results` for these atoms, as ASE wants it."""
            super().calculate(atoms, properties, system_changes)
            wants_stress = "stress" in properties
            if wants_stress and not self.atoms.pbc.all():
                raise PropertyNotImplementedError("the stress needs a frame that is periodic in all directions")
            [(_, found)] = model.answers([self.atoms], [wants_stress])
            energy = float(found["energy"][0])
            self.results = {"energy": energy, "free_energy": energy, "forces": found["forces"]}
            if adds_up(model.network):
                self.results["energies"] = found["sites"]
            if wants_stress:
                self.results["stress"] = full_3x3_to_voigt_6_stress(found["stress"][0])

    return MaceCalculator()
