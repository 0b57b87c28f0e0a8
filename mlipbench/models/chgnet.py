"""What does CHGNet say, a universal potential whose pretrained weights come in its wheel?"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.ace.torch_batch import check_device
from mlipbench.core.model import Float, ModelSpec, Predictions
from mlipbench.errors import BadInput, MlipbenchError, ModelFailure, NotApplicable, missing_package, unknown
from mlipbench.files.hashes import sha256_of

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

OPTIONS: Final = ("dtype", "version")
DTYPES: Final = ("float32", "float64")
VERSIONS: Final = {
    "0.3.0": "chgnet_0.3.0_e29f68s314m37.pth.tar",
    "0.2.0": "chgnet_0.2.0_e30f77s348m32.pth.tar",
    "r2scan": "chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
}
HEAVIEST: Final = 94  # plutonium: one embedding for each element up to it
# Elements that no training structure had. The network has numbers for them, drawn at random and never changed, and
# would answer; MPtrj covers 89 elements (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)), MP-r2SCAN lacks Yb as well.
UNTRAINED: Final = {
    "0.3.0": ("Po", "At", "Rn", "Fr", "Ra"),
    "0.2.0": ("Po", "At", "Rn", "Fr", "Ra"),
    "r2scan": ("Po", "At", "Rn", "Fr", "Ra", "Yb"),
}
# Atoms per batch: on a CPU more no longer help, and Si in batches of 256 took half as long again as of 64.
BATCH_ATOMS: Final = {"cpu": 64, "cuda": 256}
BATCH_ANGLES: Final = 40_000  # of squeezed matter, angles between bonds of up to 3 Å are what takes memory
CUTOFF_A: Final = 6.0  # of the longest-sighted version
VACUUM_A: Final = 7.0  # more than the cutoff, so that no image is seen
EDGE_A: Final = 16.0  # lengths of vacuum cells, and shifts into them, are multiples of it
MOST_CUBES: Final = 1e7  # pymatgen keeps a list for every cube of the cutoff's size: this many take 0.4 GB
GPA: Final = 160.21766208  # by which chgnet multiplies eV/Å^3, in single precision


def load(spec: ModelSpec, *, device: str) -> ChgnetModel:
    """Make one of the pretrained networks.

    Options are "version": "0.3.0" (default), "0.2.0" or "r2scan", and "dtype": "float32" (default, as it was trained)
    or "float64". Only the file inside the installed package is read, and only its tensors and plain values
    (`weights_only`; chgnet's own loader would unpickle whatever is in it).

    Raises:
        BadInput: an option is wrong.
        NotApplicable: chgnet is not installed, or there is no such device.
    """
    for name in spec.options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS, where=f"model {spec.name}")
    version, dtype = str(spec.options.get("version", "0.3.0")), str(spec.options.get("dtype", "float32"))
    if version not in VERSIONS:
        raise unknown("version of CHGNet", version, VERSIONS, where=f"model {spec.name}")
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES, where=f"model {spec.name}")
    try:
        with _quiet():
            import chgnet.model
    except ImportError as error:
        raise missing_package("chgnet", extra="chgnet", needed_for="CHGNet") from error
    check_device(device, where="CHGNet")
    weights = Path(chgnet.__file__).parent / "pretrained" / version / VERSIONS[version]
    with _quiet():
        network = _network(weights, version).to(device)
    known = _symbols(version)
    elements = known if spec.elements is None else tuple(symbol for symbol in spec.elements if symbol in known)
    identity = spec.identity or f"chgnet {version_of('chgnet')} {version} sha256:{sha256_of(weights)[:16]}"
    return ChgnetModel(
        spec=replace(spec, elements=elements, identity=identity),
        network=_in(dtype, network),
        device=device,
        dtype=dtype,
    )


def _network(weights: Path, version: str) -> Any:
    """Return a pretrained network in evaluation mode, on the CPU."""
    import torch
    from chgnet.model.model import CHGNet

    kept = torch.load(weights, map_location="cpu", weights_only=True)["model"]
    # As `CHGNet.load` does; the bias makes the energy of 0.2.0 jump, by 0.4 eV in O3, where the last angle goes.
    network = CHGNet.from_dict(kept, mlp_out_bias=version == "0.2.0", version=version).eval()
    network.graph_converter.set_isolated_atom_response("ignore")  # see `ChgnetModel.predict`
    return network


def _in(dtype: str, network: Any) -> Any:
    """Return a network in a precision, in place."""
    if dtype == "float32":
        return network.float()
    network.double()
    network.composition_model.float()  # its constants are of four decimals, and chgnet asks it in single precision
    return network


@dataclass(frozen=True, slots=True, kw_only=True)
class ChgnetModel:
    """CHGNet that predicts many frames at once.

    A frame without a cell, or with vacuum directions, gets lattice vectors there that keep images out of sight, as
    CHGNet knows crystals only; such a volume means nothing, so there is no stress. Energies are added up in double
    precision.

    Attributes:
        spec: what it takes to make it again.
        network: in evaluation mode, on its device.
        device: "cpu" or "cuda".
        dtype: "float32" or "float64", of the network.
    """

    spec: ModelSpec
    network: Any
    device: str
    dtype: str

    def calculator(self) -> Calculator:
        """Return an ASE calculator that answers as `predict` does."""
        return _calculator(self)

    def in_precision(self, dtype: str) -> ChgnetModel:
        """Return the same network in "float32" or "float64"."""
        if dtype == self.dtype:
            return self
        return replace(self, network=_in(dtype, copy.deepcopy(self.network)), dtype=dtype)

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict all frames in batches of bounded size.

        An atom that sees no other has no force, and the energy that the network gives it: that of its element, to which
        what is left when all neighbours have gone is added, so that the energy is continuous at the cutoff.

        Raises:
            BadInput: a position is not finite, or a cell makes no sense.
            ModelFailure: the network failed, or a frame is too wide.
            NotApplicable: a frame holds an element that was not trained on, or that the spec does not allow.
        """
        n_atoms = np.array([len(frame) for frame in frames], dtype=np.int64)
        has_stress = np.array([bool(frame.pbc.all()) for frame in frames], dtype=bool)
        energy, stress = np.zeros(len(frames)), np.zeros((len(frames), 3, 3))
        forces: list[Float] = [np.zeros((len(frame), 3)) for frame in frames]
        for i, answer in self._answers(frames, task="efs"):
            energy[i] = answer["site_energies"].astype(np.float64).sum()
            if "f" in answer:
                forces[i] = answer["f"].astype(np.float64)
            if "s" in answer and has_stress[i]:
                stress[i] = _stress(answer["s"], frames[i].cell.array)
        return Predictions(
            n_atoms=n_atoms, energy=energy, forces=np.concatenate([np.zeros((0, 3)), *forces]), stress=stress,
            has_stress=has_stress,
        )  # fmt: skip

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        """Return the energy of each atom in eV, shape (n_atoms_total,), frame after frame."""
        sites: list[Float] = [np.zeros(len(frame)) for frame in frames]
        for i, answer in self._answers(frames, task="e"):
            sites[i] = answer["site_energies"].astype(np.float64)
        return np.concatenate([np.zeros(0), *sites])

    def _answers(self, frames: Sequence[Atoms], *, task: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give frame numbers and what the network says; where no two atoms see each other, energies alone.

        Frames with angles and frames without go apart: version 0.2.0 adds its bias to bonds as soon as there is an
        angle in a batch, which changed the energy of H2 beside water by 0.17 eV.
        """
        self._refuse(frames)
        graphs = {i: self._graph(frame, where=f"frame {i}") for i, frame in enumerate(frames) if len(frame)}
        most_atoms = BATCH_ATOMS[self.device.partition(":")[0]]
        kinds = {i: bool(len(graph.atom_graph)) + bool(len(graph.bond_graph)) for i, graph in graphs.items()}
        for kind, wanted in ((2, task), (1, task), (0, "e")):  # of lone atoms torch has no slope to give
            for chosen in _batches({i: graph for i, graph in graphs.items() if kinds[i] == kind}, most_atoms):
                where = f"frames {chosen[0]} to {chosen[-1]}"
                yield from zip(chosen, self._ask([graphs[i] for i in chosen], task=wanted, where=where), strict=True)

    def _graph(self, frame: Atoms, *, where: str) -> Any:
        """Return the graph of a frame, in the network's precision."""
        import torch

        try:
            structure = _structure(frame)
            with _quiet():
                graph = self.network.graph_converter(structure)
        except MlipbenchError as error:
            raise type(error)(f"{where}: {error}") from error
        except (RuntimeError, ValueError, LookupError, TypeError, MemoryError) as error:
            raise ModelFailure(f"{where}: no graph can be made: {type(error).__name__}: {error}") from error
        if self.dtype == "float64":
            graph.atom_frac_coord = torch.tensor(structure.frac_coords, requires_grad=True)
            graph.lattice = torch.tensor(structure.lattice.matrix, requires_grad=True)
            graph.neighbor_image = graph.neighbor_image.double()
        return graph

    def _ask(self, graphs: list[Any], *, task: str, where: str) -> list[dict[str, Any]]:
        """Run the network once."""
        try:
            with _quiet():
                said = self.network.predict_graph(graphs, task=task, return_site_energies=True, batch_size=len(graphs))
        except (RuntimeError, ValueError, LookupError, TypeError, MemoryError) as error:
            raise ModelFailure(f"{where}: {type(error).__name__}: {error}") from error
        return [said] if isinstance(said, dict) else list(said)

    def _refuse(self, frames: Sequence[Atoms]) -> None:
        """Raise when a frame holds an element that is not covered."""
        covered = self.spec.elements or ()
        for i, frame in enumerate(frames):
            missing = sorted(set(frame.symbols) - set(covered))
            if missing:
                raise NotApplicable(f"frame {i}: CHGNet does not cover {', '.join(missing)}")


def _symbols(version: str) -> tuple[str, ...]:
    """Return the chemical symbols that a version was trained on."""
    from ase.data import chemical_symbols

    return tuple(symbol for symbol in chemical_symbols[1 : HEAVIEST + 1] if symbol not in UNTRAINED[version])


def _structure(frame: Atoms) -> Any:
    """Return the frame as a pymatgen crystal; directions without periodicity get vacuum.

    Raises:
        BadInput: a position is not finite, or the periodic vectors have no volume.
        ModelFailure: it is too wide for pymatgen's neighbour list.
    """
    from pymatgen.core import Lattice, Structure

    from mlipbench.physics.cells import complete_cell

    if not np.isfinite(frame.positions).all():  # pymatgen finds such an atom alone, and CHGNet gives it an energy
        wrong = int(np.argmin(np.isfinite(frame.positions).all(axis=1)))
        raise BadInput(f"atom {wrong} has a position that is not finite")
    cell = complete_cell(frame.cell.array, frame.pbc)
    along = frame.positions @ np.linalg.inv(cell)
    lengths = np.where(frame.pbc, 1.0, EDGE_A * np.ceil((np.ptp(along, axis=0) + VACUUM_A) / EDGE_A))
    # Near the origin, as single precision has seven digits; in steps, as are the lengths, so that when an atom moves a
    # little the round-off of all others stays.
    shifts = np.where(frame.pbc, np.trunc(along), EDGE_A * np.rint(along.mean(axis=0) / EDGE_A))
    cell *= lengths[:, None]
    cubes = np.prod(1.0 + np.linalg.norm(cell, axis=1) / CUTOFF_A)
    if cubes > MOST_CUBES:
        raise ModelFailure(
            f"the atoms or their cell span {cubes:.1e} cubes of {CUTOFF_A} Å; CHGNet here takes {MOST_CUBES:g}"
        )
    return Structure(Lattice(cell), frame.numbers, (along - shifts) / lengths)


def _stress(told: Float, cell: Float) -> Float:
    """Return the stress in eV/Å^3, from CHGNet's in GPa.

    chgnet divides the slope of the energy along a strain by a volume that is negative in a left-handed cell, and rounds
    it and the factor to single precision: the slope is recovered, and divided by the volume as it is. The symmetric
    part is the answer, as a rotation costs no energy.
    """
    volume = float(np.linalg.det(cell))
    factor = np.float32(1.0) / np.float32(volume) * np.float32(GPA)
    slope = told.astype(np.float64) / float(factor)
    return np.asarray(0.5 * (slope + slope.T) / abs(volume))


def _batches(graphs: dict[int, Any], most_atoms: int) -> Iterator[list[int]]:
    """Group frame numbers until the number of atoms or of angles reaches its bound."""
    chosen: list[int] = []
    n_atoms = n_angles = 0
    for i, graph in graphs.items():
        atoms, angles = len(graph.atomic_number), len(graph.bond_graph)
        if chosen and (n_atoms + atoms > most_atoms or n_angles + angles > BATCH_ANGLES):
            yield chosen
            chosen, n_atoms, n_angles = [], 0, 0
        chosen.append(i)
        n_atoms, n_angles = n_atoms + atoms, n_angles + angles
    if chosen:
        yield chosen


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what chgnet and pymatgen print and warn of on every call."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _calculator(model: ChgnetModel) -> Calculator:
    from ase.calculators.calculator import Calculator, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    class ChgnetCalculator(Calculator):  # type: ignore[misc]  # ASE is not typed
        implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

        def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            said = model.predict([self.atoms])
            self.results = {"energy": float(said.energy[0]), "forces": said.forces}
            if said.has_stress[0]:
                self.results["stress"] = full_3x3_to_voigt_6_stress(said.stress[0])

    return ChgnetCalculator()
