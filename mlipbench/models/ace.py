"""A linear ACE file is a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.ace.file import parse
from mlipbench.ace.potential import Evaluation, LinearAce, has_stress
from mlipbench.core.model import Float, ModelSpec, Predictions
from mlipbench.errors import BadInput, ModelFailure, NotApplicable, unknown

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

OPTIONS: Final[tuple[str, ...]] = ()


def load(spec: ModelSpec, *, device: str) -> AceModel:
    """Read a linear ACE; its kernels run on one core of the processor, whatever the device.

    Raises:
        BadInput: there is no checkpoint, it cannot be read, is not the one the spec names, or an option is given.
    """
    for name in spec.options:
        raise unknown("option", name, OPTIONS, where=f"model {spec.name}")
    if spec.checkpoint is None:
        raise BadInput(f"model {spec.name}: an ACE needs a checkpoint.")
    path = Path(spec.checkpoint)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the checkpoint {path} cannot be read: {error.strerror}. Check the path.") from error
    found = sha256(content).hexdigest()
    if spec.checkpoint_sha256 is not None and found != spec.checkpoint_sha256:
        raise BadInput(
            f"the checkpoint {path} is not the one that model {spec.name} names: its sha256 is {found}, "
            f"wanted {spec.checkpoint_sha256}."
        )
    potential = parse(content, name=str(path))
    return AceModel(spec=replace(spec, elements=symbols(potential.basis.numbers)), potential=potential)


def symbols(numbers: Sequence[int]) -> tuple[str, ...]:
    """Return the chemical symbols of atomic numbers."""
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[number] for number in numbers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AceModel:
    """A linear ACE that answers frame by frame.

    Attributes:
        spec: what it takes to make it again.
        potential: the fitted ACE.
    """

    spec: ModelSpec
    potential: LinearAce

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict all frames; a stress stands only where a frame is periodic in all directions.

        Raises:
            ModelFailure: two atoms lie on top of each other.
            NotApplicable: a frame holds an element that the model does not cover.
            BadInput: positions or cell make no sense.
        """
        found = self._evaluate(frames)
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
        return np.concatenate([np.zeros(0), *(one.site_energies for one in self._evaluate(frames))])

    def calculator(self) -> Calculator:
        """Return an ASE calculator with energy, site energies ("energies"), forces and stress."""
        return _calculator(self.potential)

    def _evaluate(self, frames: Sequence[Atoms]) -> list[Evaluation]:
        found = []
        for i, frame in enumerate(frames):
            try:
                found.append(self.potential.evaluate(frame))
            except (ModelFailure, NotApplicable, BadInput) as error:
                raise type(error)(f"frame {i}: {error}") from error
        return found


def _calculator(potential: LinearAce) -> Calculator:
    """Return the calculator; the class is made here so that ASE is imported late."""
    from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    class AceCalculator(Calculator):  # type: ignore[misc]
        """The linear ACE for ASE."""

        implemented_properties: Final = ["energy", "free_energy", "energies", "forces", "stress"]
        elements = symbols(potential.basis.numbers)

        def calculate(
            self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            if "stress" in properties and not has_stress(self.atoms):
                raise PropertyNotImplementedError("the stress needs a frame that is periodic in all directions")
            found = potential.evaluate(self.atoms)
            self.results = {
                "energy": found.energy,
                "free_energy": found.energy,
                "energies": found.site_energies,
                "forces": found.forces,
            }
            if found.stress is not None:
                self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress)

    return AceCalculator()
