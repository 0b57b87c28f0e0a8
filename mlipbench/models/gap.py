"""A Gaussian approximation potential, as gap_fit makes it, is a model.

quippy answers whatever it is asked: 0 eV for an element it does not know, a number for a position that is none. So
every frame is looked at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.ace.neighbours import box
from mlipbench.core.model import Float, ModelSpec, Predictions
from mlipbench.errors import BadInput, ModelFailure, NotApplicable, missing_package, unknown
from mlipbench.models import checkpoint
from mlipbench.models.gap_file import XML, GapFile, parse

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

SMALLEST_DISTANCE_A: Final = 1e-3
# quippy keeps a list for every cube of the cutoff's size, and ends the process when memory runs out.
MOST_CUBES: Final = 1e7
OPTIONS: Final[tuple[str, ...]] = ()


def load(spec: ModelSpec, *, device: str) -> GapModel:
    """Read a potential; quippy runs it on the processor, whatever the device.

    Raises:
        BadInput: there is no checkpoint, it cannot be read, is not the one the spec names, or an option is given.
        NotApplicable: quippy-ase is not installed.
    """
    for name in spec.options:
        raise unknown("option", name, OPTIONS, where=f"model {spec.name}")
    content = checkpoint.read(spec, what="a GAP")
    path = Path(str(spec.checkpoint))
    gap = parse(content, name=str(path))
    return GapModel(spec=replace(spec, elements=gap.elements), cutoff_A=gap.cutoff_A, potential=_potential(gap, path))


def _potential(gap: GapFile, path: Path) -> Any:
    """Return quippy's calculator; it reads all files at once, so they need not stay.

    quippy goes to the folder of what it reads, and stays there when it fails: we go there first, and back again.
    """
    try:
        from quippy.potential import Potential
    except ModuleNotFoundError as error:
        package = (error.name or "quippy").partition(".")[0]
        raise missing_package(package, extra="gap", needed_for="a GAP model") from error
    with TemporaryDirectory(prefix="mlipbench-gap-") as folder, chdir(folder):
        for name, content in gap.files.items():
            Path(name).write_bytes(content)
        try:
            return Potential("", param_filename=XML, calculation_always_required=True)
        except RuntimeError as error:
            raise BadInput(f"quippy cannot read the potential in {path}: {_last_line(error)}.") from error


def _last_line(error: RuntimeError) -> str:
    """Return what went wrong, without the Fortran traceback, whose lines are padded with spaces."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What quippy says about one frame.

    Attributes:
        energy: eV.
        site_energies: shape (n_atoms,), eV.
        forces: shape (n_atoms, 3), eV/Å.
        stress: shape (3, 3), eV/Å^3; None unless the frame is periodic in all directions.
    """

    energy: float
    site_energies: Float
    forces: Float
    stress: Float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GapModel:
    """A GAP that answers frame by frame.

    Attributes:
        spec: what it takes to make it again.
        cutoff_A: longest reach of its descriptors.
        potential: quippy's calculator.
    """

    spec: ModelSpec
    cutoff_A: float
    potential: Any

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict all frames; a stress stands only where a frame is periodic in all directions.

        Raises:
            ModelFailure: two atoms lie on top of each other, or quippy failed.
            NotApplicable: a frame holds an element that the model does not cover.
            BadInput: positions or cell make no sense.
        """
        found = self._answers(frames)
        none = np.zeros((3, 3))
        return Predictions(
            n_atoms=np.array([len(frame) for frame in frames], dtype=np.int64),
            energy=np.array([one.energy for one in found], dtype=np.float64),
            forces=np.concatenate([np.zeros((0, 3)), *(one.forces for one in found)]),
            stress=np.array([none if one.stress is None else one.stress for one in found]).reshape(-1, 3, 3),
            has_stress=np.array([one.stress is not None for one in found], dtype=bool),
        )

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        """Return the energy of each atom in eV, shape (n_atoms_total,), frame after frame.

        Raises:
            ModelFailure, NotApplicable, BadInput: as `predict`.
        """
        return np.concatenate([np.zeros(0), *(one.site_energies for one in self._answers(frames))])

    def calculator(self) -> Calculator:
        """Return an ASE calculator with energy, site energies ("energies"), forces and stress."""
        return _calculator(self)

    def _answers(self, frames: Sequence[Atoms]) -> list[Answer]:
        found = []
        for i, frame in enumerate(frames):
            try:
                found.append(self.answer(frame))
            except (ModelFailure, NotApplicable, BadInput) as error:
                raise type(error)(f"frame {i}: {error}") from error
        return found

    def answer(self, frame: Atoms) -> Answer:
        """Ask quippy about a copy of one frame.

        Raises:
            ModelFailure, NotApplicable, BadInput: as `predict`.
        """
        missing = sorted(set(frame.symbols) - set(self.spec.elements or ()))
        if missing:
            covered = ", ".join(self.spec.elements or ())
            raise NotApplicable(f"the GAP does not cover {', '.join(missing)}; it covers {covered}")
        is_periodic = bool(frame.pbc.all())
        if not len(frame):
            return Answer(
                energy=0.0, site_energies=np.zeros(0), forces=np.zeros((0, 3)),
                stress=np.zeros((3, 3)) if is_periodic else None,
            )  # fmt: skip
        boxed = in_box(frame, self.cutoff_A)
        self.potential.reset()
        try:
            self.potential.calculate(boxed, ["energy", "energies", "forces"] + ["stress"] * is_periodic)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ModelFailure(f"quippy failed: {type(error).__name__}: {error}") from error
        found = self.potential.results
        return Answer(
            energy=float(found["energy"]),
            site_energies=np.array(found["energies"], dtype=np.float64),
            forces=np.array(found["forces"], dtype=np.float64),
            stress=_full(found["stress"]) if is_periodic else None,
        )


def _full(voigt: Float) -> Float:
    """Return a stress of six components in ASE's order as a matrix."""
    xx, yy, zz, yz, xz, xy = (float(x) for x in voigt)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def in_box(frame: Atoms, cutoff_A: float) -> Atoms:
    """Return a copy that repeats in all directions; where the frame does not, images are out of each other's reach.

    Raises:
        BadInput: a position is not finite, or the periodic cell vectors span no volume.
        ModelFailure: two atoms lie on top of each other, or so far apart that they have no neighbour list.
    """
    from ase import Atoms
    from matscipy.neighbours import neighbour_list

    positions, cell = frame.get_positions(), np.asarray(frame.cell.array, dtype=np.float64)
    if not np.isfinite(positions).all():
        raise BadInput(f"atom {int(np.argmin(np.isfinite(positions).all(axis=1)))} has a position that is not finite")
    cell, origin = box(positions, cell, frame.pbc, cutoff_A)
    cubes = np.prod(1.0 + np.linalg.norm(cell, axis=1) / cutoff_A)
    if cubes > MOST_CUBES:
        raise ModelFailure(
            f"the atoms or their cell span {cubes:.1e} cubes of {cutoff_A} Å; quippy can take {MOST_CUBES:g}"
        )
    try:
        first, second, distance = neighbour_list(
            "ijd", cutoff=cutoff_A, positions=positions, cell=cell, pbc=frame.pbc, cell_origin=origin
        )
    except (RuntimeError, ValueError, MemoryError, SystemError) as error:  # how its compiled code fails
        raise ModelFailure(f"no neighbour list within {cutoff_A} Å can be made: {error}") from error
    if len(distance) and distance.min() < SMALLEST_DISTANCE_A:
        pair = int(np.argmin(distance))
        raise ModelFailure(
            f"atoms {first[pair]} and {second[pair]} are {distance[pair]:.1e} Å apart; "
            f"a GAP has no answer below {SMALLEST_DISTANCE_A} Å"
        )
    return Atoms(numbers=frame.numbers, positions=positions - origin, cell=cell, pbc=True)


def _calculator(model: GapModel) -> Calculator:
    """Return the calculator; the class is made here so that ASE is imported late."""
    from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    class GapCalculator(Calculator):  # type: ignore[misc]
        """The GAP for ASE."""

        implemented_properties: Final = ["energy", "free_energy", "energies", "forces", "stress"]
        elements = model.spec.elements

        def calculate(
            self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            if "stress" in properties and not self.atoms.pbc.all():
                raise PropertyNotImplementedError("the stress needs a frame that is periodic in all directions")
            found = model.answer(self.atoms)
            self.results = {
                "energy": found.energy,
                "free_energy": found.energy,
                "energies": found.site_energies,
                "forces": found.forces,
            }
            if found.stress is not None:
                self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress)

    return GapCalculator()
