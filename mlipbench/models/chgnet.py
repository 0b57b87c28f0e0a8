"""What does CHGNet say, a universal potential whose pretrained weights come in its wheel?"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.ace.torch_batch import check_device
from mlipbench.core.model import Float, ModelSpec, Predictions
from mlipbench.errors import ModelFailure, NotApplicable, missing_package, unknown
from mlipbench.files.hashes import sha256_of
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

OPTIONS: Final = ("version",)
VERSIONS: Final = {
    "0.3.0": "chgnet_0.3.0_e29f68s314m37.pth.tar",
    "0.2.0": "chgnet_0.2.0_e30f77s348m32.pth.tar",
    "r2scan": "chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
}
HEAVIEST: Final = 94  # plutonium: one embedding for each element up to it
BATCH_ATOMS: Final = 256
BATCH_ANGLES: Final = 40_000  # of squeezed matter, angles between bonds of up to 3 Å are what takes memory
VACUUM_A: Final = 7.0  # more than the cutoff of 6 Å, so that no image is seen
EDGE_A: Final = 16.0  # lengths of vacuum cells, and shifts into them, are multiples of it


def load(spec: ModelSpec, *, device: str) -> ChgnetModel:
    """Make one of the pretrained networks; option "version" is "0.3.0" (default), "0.2.0" or "r2scan".

    The weights are a pickle, and unpickling runs code: only the file inside the installed wheel is read, which is as
    trusted as the package's own code.

    Raises:
        BadInput: an option is wrong.
        NotApplicable: chgnet is not installed, or there is no such device.
    """
    for name in spec.options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS, where=f"model {spec.name}")
    version = str(spec.options.get("version", "0.3.0"))
    if version not in VERSIONS:
        raise unknown("version of CHGNet", version, VERSIONS, where=f"model {spec.name}")
    try:
        with _quiet():
            import chgnet
            from chgnet.model.model import CHGNet
    except ImportError as error:
        raise missing_package("chgnet", extra="chgnet", needed_for="CHGNet") from error
    check_device(device, where="CHGNet")
    with _quiet():
        network = CHGNet.load(model_name=version, use_device=device, verbose=False).eval()
    network.graph_converter.on_isolated_atoms = "ignore"  # see `ChgnetModel.predict`
    weights = Path(chgnet.__file__).parent / "pretrained" / version / VERSIONS[version]
    identity = f"chgnet {version} {sha256_of(weights)[:16]}"
    covered = spec.elements or _symbols()
    return ChgnetModel(
        spec=replace(spec, elements=covered, identity=spec.identity or identity), network=network, device=device
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChgnetModel:
    """CHGNet that predicts many frames at once, in single precision as it was made.

    A frame without a cell, or with vacuum directions, gets lattice vectors there that keep images out of sight, as
    CHGNet knows crystals only. Energies are added up in double precision.

    Attributes:
        spec: what it takes to make it again.
        network: in evaluation mode, on its device.
        device: "cpu" or "cuda".
    """

    spec: ModelSpec
    network: Any
    device: str

    def calculator(self) -> Calculator:
        """Return an ASE calculator that answers as `predict` does."""
        return _calculator(self)

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict all frames in batches of bounded size.

        Frames in which no two atoms see each other have no forces, and the energies of lone atoms as CHGNet gives them.

        Raises:
            ModelFailure: the network failed.
            NotApplicable: a frame holds an element beyond plutonium, or none that the spec allows.
        """
        n_atoms = np.array([len(frame) for frame in frames], dtype=np.int64)
        has_stress = np.array([bool(frame.pbc.all()) for frame in frames], dtype=bool)
        energy, stress = np.zeros(len(frames)), np.zeros((len(frames), 3, 3))
        forces: list[Float] = [np.zeros((len(frame), 3)) for frame in frames]
        for chosen, answers in self._answers(frames):
            for i, answer in zip(chosen, answers, strict=True):
                energy[i] = answer["site_energies"].astype(np.float64).sum()
                forces[i] = answer["f"].astype(np.float64)
                if has_stress[i]:
                    # chgnet's factor differs from ours in the ninth digit, and single precision knows seven
                    handed = np.sign(np.linalg.det(frames[i].cell.array))  # chgnet's volume has a sign
                    stress[i] = handed * _symmetric(answer["s"].astype(np.float64)) / GPA_PER_EV_PER_CUBIC_ANGSTROM
        return Predictions(
            n_atoms=n_atoms, energy=energy, forces=np.concatenate([np.zeros((0, 3)), *forces]), stress=stress,
            has_stress=has_stress,
        )  # fmt: skip

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        """Return the energy of each atom in eV, shape (n_atoms_total,), frame after frame."""
        sites: list[Float] = [np.zeros(len(frame)) for frame in frames]
        for chosen, answers in self._answers(frames):
            for i, answer in zip(chosen, answers, strict=True):
                sites[i] = answer["site_energies"].astype(np.float64)
        return np.concatenate([np.zeros(0), *sites])

    def _answers(self, frames: Sequence[Atoms]) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
        """Give frame numbers and the network's answers, batch by batch."""
        self._refuse(frames)
        graphs: dict[int, Any] = {}
        with _quiet():
            for i, frame in enumerate(frames):
                if len(frame):
                    graphs[i] = self.network.graph_converter(_structure(frame))
        together = {i: graph for i, graph in graphs.items() if graph.atom_graph.dim() == 2}
        for chosen in _batches(together, frames):
            yield (
                chosen,
                self._ask([graphs[i] for i in chosen], task="efs", where=f"frames {chosen[0]} to {chosen[-1]}"),
            )
        for i in sorted(graphs.keys() - together.keys()):
            (answer,) = self._ask([graphs[i]], task="e", where=f"frame {i}")
            answer["f"], answer["s"] = np.zeros((len(frames[i]), 3)), np.zeros((3, 3))
            yield [i], [answer]

    def _ask(self, graphs: list[Any], *, task: str, where: str) -> list[dict[str, Any]]:
        """Run the network once."""
        try:
            with _quiet():
                said = self.network.predict_graph(graphs, task=task, return_site_energies=True, batch_size=len(graphs))
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise ModelFailure(f"{where}: {type(error).__name__}: {error}") from error
        return [said] if isinstance(said, dict) else list(said)

    def _refuse(self, frames: Sequence[Atoms]) -> None:
        """Raise when a frame holds an element that is not covered."""
        covered = self.spec.elements or ()
        for i, frame in enumerate(frames):
            missing = sorted(set(frame.symbols) - set(covered))
            if missing:
                raise NotApplicable(f"frame {i}: CHGNet does not cover {', '.join(missing)}")


def _symbols() -> tuple[str, ...]:
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[1 : HEAVIEST + 1])


def _structure(frame: Atoms) -> Any:
    """Return the frame as a pymatgen crystal; directions without periodicity get vacuum."""
    from pymatgen.core import Lattice, Structure

    from mlipbench.physics.cells import complete_cell

    cell = complete_cell(frame.cell.array, frame.pbc)
    along = frame.positions @ np.linalg.inv(cell)
    for axis in np.flatnonzero(~frame.pbc):
        cell[axis] *= EDGE_A * np.ceil((np.ptp(along[:, axis]) + VACUUM_A) / EDGE_A)
    # Near the origin, as fractional coordinates are in single precision; in steps, as are the lengths, so that when an
    # atom moves a little the round-off of all others stays.
    shift = 0.0 if frame.pbc.any() else EDGE_A * np.rint(frame.positions.mean(axis=0) / EDGE_A)
    positions = frame.positions - shift
    return Structure(Lattice(cell), frame.numbers, positions, coords_are_cartesian=True)


def _batches(graphs: dict[int, Any], frames: Sequence[Atoms]) -> Iterator[list[int]]:
    """Group frame numbers until the number of atoms or of angles reaches its bound."""
    chosen: list[int] = []
    n_atoms = n_angles = 0
    for i, graph in graphs.items():
        atoms, angles = len(frames[i]), len(graph.bond_graph)
        if chosen and (n_atoms + atoms > BATCH_ATOMS or n_angles + angles > BATCH_ANGLES):
            yield chosen
            chosen, n_atoms, n_angles = [], 0, 0
        chosen.append(i)
        n_atoms, n_angles = n_atoms + atoms, n_angles + angles
    if chosen:
        yield chosen


def _symmetric(tensor: Float) -> Float:
    """Return the symmetric part: the derivative along a strain, whose rotation costs no energy."""
    return np.asarray(0.5 * (tensor + tensor.T))


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
