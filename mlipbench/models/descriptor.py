"""A descriptor is a model that knows each atom's surroundings and no energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.features import ace_features, soap_features
from mlipbench.ace.soap import Soap
from mlipbench.core.model import Float, ModelSpec
from mlipbench.errors import BadInput, ModelFailure, NotApplicable, unknown
from mlipbench.files.toml import build

if TYPE_CHECKING:
    from ase import Atoms

# Value of options.descriptor → the hyperparameters that the other options set.
KINDS: Final[Mapping[str, type[Soap] | type[Basis]]] = {"soap": Soap, "ace": Basis}


def load(spec: ModelSpec, *, device: str) -> Descriptor:
    """Make the descriptor that `options.descriptor` names, of the other options; it runs on one core of the processor.

    Raises:
        BadInput: no elements are given, or an option is missing, unknown or out of range.
    """
    where = f"model {spec.name}"
    options = dict(spec.options)
    name = options.pop("descriptor", None)
    if not isinstance(name, str) or name not in KINDS:
        raise unknown("descriptor", str(name), KINDS, where=f"{where}, options")
    if not spec.elements:
        raise BadInput(f'{where}: a descriptor needs spec.elements, such as ["H", "C", "O"].')
    known = [field.name for field in fields(KINDS[name]) if field.name != "numbers"]
    for option in options:
        if option not in known:
            raise unknown("option", option, known, where=where)
    numbers = _numbers(spec.elements, where=where)
    made = build(KINDS[name], {"numbers": numbers, **options}, where=f"{where}, options")
    return Descriptor(spec=replace(spec, elements=_symbols(numbers)), parameters=made)


def _numbers(elements: Sequence[str], *, where: str) -> tuple[int, ...]:
    """Return distinct atomic numbers, ascending."""
    from ase.data import atomic_numbers

    for element in elements:
        if element not in atomic_numbers:
            raise unknown("element", element, atomic_numbers, where=where)
    return tuple(sorted({int(atomic_numbers[element]) for element in elements}))


def _symbols(numbers: Sequence[int]) -> tuple[str, ...]:
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[number] for number in numbers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Descriptor:
    """Features of each atom, from SOAP or from the functions of an ACE.

    Attributes:
        spec: what it takes to make it again.
        parameters: which descriptor.
    """

    spec: ModelSpec
    parameters: Soap | Basis

    def site_features(self, frames: Sequence[Atoms]) -> Float:
        """Return the features of each atom, shape (n_atoms_total, n_features), frame after frame.

        Raises:
            ModelFailure: two atoms lie on top of each other.
            NotApplicable: a frame holds an element that the descriptor does not cover.
            BadInput: positions or cell make no sense.
        """
        found = []
        for i, frame in enumerate(frames):
            try:
                found.append(self._features(frame))
            except (ModelFailure, NotApplicable, BadInput) as error:
                raise type(error)(f"frame {i}: {error}") from error
        return np.concatenate(found) if found else np.zeros((0, self._n_features()))

    def predict(self, frames: Sequence[Atoms]) -> NoReturn:
        """Refuse.

        Raises:
            NotApplicable: always.
        """
        raise NotApplicable(f"{self.spec.name} is a descriptor; it predicts no energies and forces")

    def calculator(self) -> NoReturn:
        """Refuse.

        Raises:
            NotApplicable: always.
        """
        raise NotApplicable(f"{self.spec.name} is a descriptor; it has no calculator of energies and forces")

    def _features(self, frame: Atoms) -> Float:
        if isinstance(self.parameters, Soap):
            return soap_features(frame, self.parameters)
        return ace_features(frame, self.parameters)

    def _n_features(self) -> int:
        made = self.parameters
        return made.n_features if isinstance(made, Soap) else functions(made).n_functions
