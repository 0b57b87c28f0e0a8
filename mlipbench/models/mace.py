"""A MACE checkpoint is a model."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from mlipbench.core.model import Float, ModelSpec, Predictions
from mlipbench.errors import BadInput, ModelFailure, NotApplicable, missing_package, unknown

if TYPE_CHECKING:
    import torch
    from ase import Atoms
    from ase.calculators.calculator import Calculator

Graph: TypeAlias = "Mapping[str, torch.Tensor]"
OPTIONS: Final = ("batch_atoms", "dtype", "head")
DTYPES: Final = ("float32", "float64")
# Atoms per batch: enough to hide the cost of a call, few enough for memory.
BATCH_ATOMS: Final = {"cpu": 512, "cuda": 8192}
EDGES_PER_ATOM = 60  # a batch also ends at this many neighbours per atom it may hold: edges are what takes memory
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
            warnings.filterwarnings("ignore", message=text.replace("(", r"\(").replace(".", r"\."))
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


def load(spec: ModelSpec, *, device: str) -> MaceModel:
    """Read a checkpoint of mace-torch.

    A checkpoint is a pickle, and unpickling runs code: the file is read only because the user named it, and where the
    spec holds its sha256 only if it is that very file. Options are "dtype" ("float32" or "float64"; the network's own
    when not given), "batch_atoms" and "head".

    Raises:
        BadInput: the file is missing, is not the one the spec names, or holds no MACE network; or an option is wrong.
        NotApplicable: mace-torch is not installed, or there is no such device.
    """
    for name in spec.options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS, where=f"model {spec.name}")
    if spec.checkpoint is None:
        raise BadInput(f"model {spec.name}: a MACE model needs a checkpoint.")
    content = _read(Path(spec.checkpoint), spec.checkpoint_sha256)
    with quiet_mace():
        check_device(device)
        network = _unpickle(content, spec.checkpoint)
        own = str(next(network.parameters()).dtype).removeprefix("torch.")
        dtype = str(spec.options.get("dtype", own))
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES, where=f"model {spec.name}")
        network = place(network, device=device, dtype=dtype)
    covered = symbols_of(network)
    return MaceModel(
        spec=replace(spec, elements=covered) if spec.elements is None else spec,
        network=network, device=device, dtype=dtype, head=_head(network, spec),
        batch_atoms=int(spec.options.get("batch_atoms", BATCH_ATOMS.get(device.partition(":")[0], 512))),
    )  # fmt: skip


def _read(path: Path, wanted: str | None) -> bytes:
    """Return the bytes of a checkpoint, checked before anything in it can run."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the checkpoint {path} cannot be read: {error.strerror}. Check the path.") from error
    found = sha256(content).hexdigest()
    if wanted is not None and found != wanted:
        raise BadInput(
            f"the checkpoint {path} is not the one the model names: its sha256 is {found}, wanted {wanted}. "
            "A checkpoint can run code, so another file is not read; name the right one, or correct the sha256."
        )
    return content


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


def check_device(device: str) -> None:
    """Refuse a GPU that is not there.

    Raises:
        NotApplicable: torch finds none.
    """
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise NotApplicable(f"the device '{device}' was asked for, and torch finds no GPU")


def place(network: torch.nn.Module, *, device: str, dtype: str) -> torch.nn.Module:
    """Return the network on a device in a precision, ready to predict."""
    import torch

    return network.to(device=device, dtype=getattr(torch, dtype)).eval()


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
    """
    import torch
    from mace.data.neighborhood import get_neighborhood

    kind = getattr(torch, dtype)
    # Copies, because the function widens the cell it is given along directions without a period.
    edges, shifts, unit_shifts, cell = get_neighborhood(
        positions=frame.positions.copy(),
        cutoff=cutoff_A,
        pbc=tuple(bool(x) for x in frame.pbc),
        cell=frame.cell.array.copy(),
    )
    species = torch.tensor([symbols.index(symbol) for symbol in frame.symbols], dtype=torch.long)
    return {
        "positions": torch.tensor(frame.positions, dtype=kind),
        "node_attrs": torch.nn.functional.one_hot(species, len(symbols)).to(kind),
        "edge_index": torch.tensor(edges, dtype=torch.long),
        "shifts": torch.tensor(shifts, dtype=kind),
        "unit_shifts": torch.tensor(unit_shifts, dtype=kind),
        "cell": torch.tensor(cell, dtype=kind),
        "head": torch.tensor([head], dtype=torch.long),
        "total_charge": torch.tensor([float(frame.info.get("charge", 0.0))], dtype=kind),
        "total_spin": torch.tensor([float(frame.info.get("spin", 1.0))], dtype=kind),
    }


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
        """Return MACE's own ASE calculator around the same network, with energies added up in double precision."""
        with quiet_mace():
            return _calculator_class()(
                models=[self.network], device=self.device, default_dtype=self.dtype,
                head=list(getattr(self.network, "heads", None) or ["Default"])[self.head],
            )  # fmt: skip

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
        for chosen, answer in self._answers(frames, has_stress):
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
        for chosen, answer in self._answers(frames, np.zeros(len(frames), dtype=bool)):
            parts |= dict(zip(chosen, np.split(answer["sites"], answer["ends"]), strict=True))
        return np.concatenate([np.zeros(0), *(parts[i] for i in range(len(frames)))])

    def _answers(self, frames: Sequence[Atoms], with_stress: Any) -> Iterator[tuple[list[int], dict[str, Float]]]:
        """Give frame numbers and their answers, batch by batch; a batch has a stress or has none."""
        covered = symbols_of(self.network)
        for i, frame in enumerate(frames):
            missing = sorted(set(frame.symbols) - set(covered))
            if missing:
                raise NotApplicable(
                    f"frame {i}: the MACE model {self.spec.name} does not cover {', '.join(missing)}; "
                    f"it covers {', '.join(covered)}"
                )
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
        """Run the network once; numbers come back in double precision."""
        batch = collate(graphs, device=self.device)
        ends = batch["ptr"][1:-1].cpu().numpy()
        try:
            answer = self.network(batch, training=False, compute_force=True, compute_stress=has_stress)
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise ModelFailure(f"frames {chosen[0]} to {chosen[-1]}: {type(error).__name__}: {error}") from error
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


def adds_up(network: torch.nn.Module) -> bool:
    """Tell whether the network's energy is the sum of the energies it gives for each atom."""
    return type(network).__name__ in ("MACE", "ScaleShiftMACE") and not hasattr(network, "embedding_readout")


def _calculator_class() -> type[Calculator]:
    """Return MACE's calculator, with the sum over atoms taken in double precision where the energy is one."""
    from ase.calculators.calculator import all_changes
    from mace.calculators import MACECalculator

    class DoubleSumCalculator(MACECalculator):  # type: ignore[misc]
        """MACE's calculator; molecular dynamics needs energies finer than single precision can add them up."""

        def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
            """Fill `results` for these atoms, as ASE wants it."""
            super().calculate(atoms, properties, system_changes)
            if adds_up(self.models[0]):
                self.results["energy"] = self.results["free_energy"] = float(self.results["energies"].sum())

    return DoubleSumCalculator
