"""What does a model get that knows nothing, and one that knows the molecules and nothing of what acts between them?

These are marks on a scale, not competitors: `zero` answers no forces, and `no-interaction` looks the reference's own
answers for molecules alone up in the data it is measured on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

import numpy as np

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Int, Model, ModelSpec, Predictions
from mlipbench.errors import NotApplicable, unknown
from mlipbench.physics.molecules import Molecule, find_molecules, split_by_molecule

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

OPTION: Final = "answers"
SAME_PLACE_A: Final = 1e-6  # Å; far below any motion, far above round-off of taking a molecule out of its cell
Kind: TypeAlias = tuple[bytes, bytes]  # atomic numbers in order, and periodicity


@runtime_checkable
class FromLabels(Protocol):
    """A reference that answers from the labels of the data it is measured on, and from nothing else."""

    def knowing(self, data: Dataset) -> Model:
        """Return what answers for these data.

        Raises:
            NotApplicable: they lack the labels.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero:
    """No forces, no energy, no stress, for any frame."""

    spec: ModelSpec

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Answer zero."""
        none = np.zeros((3, 3))
        return _together([
            _Answer(forces=np.zeros((len(frame), 3)), stress=none if frame.pbc.all() else None) for frame in frames
        ])

    def calculator(self) -> Calculator:
        """Return an ASE calculator that answers zero."""
        return _calculator(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Energy in eV, forces in eV/Å and stress in eV/Å^3 of one frame; None where it has none."""

    forces: Float
    energy: float = 0.0
    stress: Float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoInteraction:
    """Every molecule as it would be alone: what the vacuum labels of a data set say, and nothing of any other frame.

    Forces on a molecule are its forces in vacuum, and the energy of a frame is the sum over its molecules. Labels hold
    this sum alone; a single molecule taken out of a frame of several is given its share of it by number of atoms, so
    that sums over all molecules of a frame are right.

    Attributes:
        spec: what it takes to make it again.
        frames: by kind, where the atoms of each known frame are, and what is answered.
        molecules: by kind, the same of each molecule, from its first atom on.
    """

    spec: ModelSpec
    frames: Mapping[Kind, tuple[Float, Sequence[_Answer]]]
    molecules: Mapping[Kind, tuple[Float, Sequence[_Answer]]]

    def knowing(self, data: Dataset) -> NoInteraction:
        """Return what answers for these data.

        Raises:
            NotApplicable: they have no vacuum labels.
        """
        if data.energy_intra is None or data.forces_intra is None:
            raise NotApplicable(f"{self.spec.name} answers with vacuum labels, and {data.spec.name} has none")
        frames, molecules = _Known(), _Known()
        for number, frame in enumerate(data.frames):
            rows = slice(data.offsets[number], data.offsets[number + 1])
            energy, forces = float(data.energy_intra[number]), data.forces_intra[rows]
            parts = _parts(frame, None if data.molecule is None else data.molecule[rows])
            for part in parts:
                share = energy * len(part.atoms) / len(frame)
                answer = _Answer(energy=share, forces=forces[part.atoms])
                molecules.add(_kind(frame.numbers[part.atoms], np.zeros(3, bool)), _from_first(part.positions), answer)
            has_stress = frame.pbc.all() and parts
            stress = alone_stress(parts, forces, frame.get_volume()) if has_stress else None
            answer = _Answer(energy=energy, forces=forces, stress=stress)
            frames.add(_kind(frame.numbers, frame.pbc), _place(frame), answer)
        # Answers are remembered by spec, and another data set may say something else of the same frame.
        spec = replace(self.spec, identity=f"{self.spec.identity} on {data.spec.name} {data.spec.sha256}")
        return NoInteraction(spec=spec, frames=frames.stacked(), molecules=molecules.stacked())

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Look frames up, and molecules alone.

        Raises:
            NotApplicable: a frame is none of the data's, nor a molecule of theirs as it stands in them.
        """
        return _together([self._answer(frame, number) for number, frame in enumerate(frames)])

    def calculator(self) -> Calculator:
        """Return an ASE calculator that looks frames up."""
        return _calculator(self)

    def _answer(self, frame: Atoms, number: int) -> _Answer:
        kind = _kind(frame.numbers, frame.pbc)
        found = _look_up(self.frames, kind, _place(frame))
        if found is None and len(frame) and not frame.pbc.any():
            found = _look_up(self.molecules, kind, _from_first(frame.positions))
        if found is None:
            raise NotApplicable(
                f"frame {number}: {self.spec.name} knows the frames of the data and their molecules as they stand in "
                "them, and this is neither"
            )
        return found


class _Known:
    """Gathers answers by kind, then stacks them."""

    def __init__(self) -> None:
        self._places: dict[Kind, list[Float]] = defaultdict(list)
        self._answers: dict[Kind, list[_Answer]] = defaultdict(list)

    def add(self, kind: Kind, place: Float, answer: _Answer) -> None:
        """Note one answer."""
        self._places[kind].append(place)
        self._answers[kind].append(answer)

    def stacked(self) -> dict[Kind, tuple[Float, Sequence[_Answer]]]:
        """Return places of shape (n, n_numbers), and their answers, by kind."""
        return {kind: (np.array(places), self._answers[kind]) for kind, places in self._places.items()}


def alone_stress(parts: Sequence[Molecule], forces: Float, volume_A3: float) -> Float:
    """Return the stress of molecules that do not act on each other, in eV/Å^3, shape (3, 3), ASE's sign.

    Source: the virial, Thompson, Plimpton & Mattson, J. Chem. Phys. 131, 154107 (2009), doi:10.1063/1.3245303:
    σ = (1/V) dE/dε = -(1/V) Σ r ⊗ f over whole molecules; the forces on each add up to nothing and do not turn it, so
    that neither the origin nor the order of the factors matters.

    Args:
        parts: whole molecules.
        forces: shape (n_atoms, 3), of each molecule alone, eV/Å.
        volume_A3: of the cell.
    """
    virial = np.zeros((3, 3))
    for part in parts:
        virial += (part.positions - part.positions.mean(axis=0)).T @ forces[part.atoms]
    return np.asarray(-(virial + virial.T) / (2.0 * volume_A3))


def _parts(frame: Atoms, molecule: Int | None) -> tuple[Molecule, ...]:
    """Return the molecules of a frame; none where one of them is bonded to its own image."""
    from ase.data import covalent_radii

    cell, radii = frame.cell.array, covalent_radii[frame.numbers]
    if molecule is None:
        molecule = find_molecules(frame.positions, cell, frame.pbc, radii=radii)
    try:
        return split_by_molecule(frame.positions, cell, frame.pbc, molecule, radii=radii)
    except NotApplicable:
        return ()


def _kind(numbers: Int, pbc: Any) -> Kind:
    return np.asarray(numbers, dtype=np.int64).tobytes(), np.asarray(pbc, dtype=np.bool_).tobytes()


def _place(frame: Atoms) -> Float:
    """Return positions and lattice vectors in one line."""
    return np.concatenate([frame.positions.ravel(), (frame.cell.array * frame.pbc[:, None]).ravel()])


def _from_first(positions: Float) -> Float:
    """Return positions in one line, counted from the first atom."""
    return np.asarray((positions - positions[0]).ravel())


def _look_up(known: Mapping[Kind, tuple[Float, Sequence[_Answer]]], kind: Kind, place: Float) -> _Answer | None:
    """Return the answer at a place; None where nothing known lies there."""
    if kind not in known:
        return None
    places, answers = known[kind]
    off = np.abs(places - place).max(axis=1)
    nearest = int(np.argmin(off))
    return answers[nearest] if off[nearest] <= SAME_PLACE_A else None


def _together(answers: Sequence[_Answer]) -> Predictions:
    none = np.zeros((3, 3))
    return Predictions(
        n_atoms=np.array([len(answer.forces) for answer in answers], dtype=np.int64),
        energy=np.array([answer.energy for answer in answers], dtype=np.float64),
        forces=np.concatenate([np.zeros((0, 3)), *(answer.forces for answer in answers)]),
        stress=np.array([none if answer.stress is None else answer.stress for answer in answers]).reshape(-1, 3, 3),
        has_stress=np.array([answer.stress is not None for answer in answers], dtype=np.bool_),
    )


def _calculator(model: Model) -> Calculator:
    from ase.calculators.calculator import Calculator, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    class LookedUp(Calculator):  # type: ignore[misc]  # ASE is not typed
        implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

        def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            said = model.predict([self.atoms])
            self.results = {"energy": float(said.energy[0]), "forces": said.forces}
            if said.has_stress[0]:
                self.results["stress"] = full_3x3_to_voigt_6_stress(said.stress[0])

    return LookedUp()


def _zero(spec: ModelSpec) -> Model:
    return Zero(spec=spec)


def _no_interaction(spec: ModelSpec) -> Model:
    return NoInteraction(spec=spec, frames={}, molecules={})


REFERENCES: Final[Mapping[str, Callable[[ModelSpec], Model]]] = {"zero": _zero, "molecules alone": _no_interaction}


def load(spec: ModelSpec, *, device: str) -> Model:
    """Make a reference.

    Options: `answers`, "zero" or "molecules alone".

    Raises:
        BadInput: an option is missing or unknown.
    """
    for name in spec.options:
        if name != OPTION:
            raise unknown("option", name, (OPTION,), where=f"model {spec.name}")
    answers = str(spec.options.get(OPTION, ""))
    if answers not in REFERENCES:
        raise unknown(f"value of options.{OPTION}", answers, REFERENCES, where=f"model {spec.name}")
    return REFERENCES[answers](spec)
