"""Any ASE calculator is a model."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import SubprocessError
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from mlipbench.core.model import Float, ModelSpec, Predictions
from mlipbench.errors import BadInput, MissingPackage, ModelFailure, NotApplicable, unknown
from mlipbench.models.factory import check_unchanged, find, spec_of

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

__all__ = ["CALCULATOR_ERRORS", "AseModel", "load", "spec_of"]

# What a calculator's code raises when it fails. Named, so that an interrupt, an exit or an error of our own passes
# through. ASE's CalculatorError and PropertyNotImplementedError, torch's out-of-memory and numpy's LinAlgError are
# RuntimeErrors and ValueErrors; compiled code may end in a SystemError.
CALCULATOR_ERRORS: Final = (
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError, LookupError, MemoryError,
    NameError, OSError, RuntimeError, StopIteration, SubprocessError, SystemError, TypeError, ValueError,
)  # fmt: skip
OPTIONS: Final = ("arguments", "factory")
HEAVIEST_PROBED = 96  # curium; beyond it nobody has a potential


def load(spec: ModelSpec, *, device: str) -> AseModel:
    """Make the model of a calculator factory.

    `spec.options` holds "factory", as in "package.module:name" or "file.py:name", and "arguments", its keywords. The
    factory may be a function, a class or a calculator that is there already. It is given `device` when it has a
    parameter of that name and the arguments do not set it.

    Raises:
        BadInput: there is no such factory, its arguments do not fit, or what it makes is no ASE calculator.
        NotApplicable: a package is not installed.
        ModelFailure: the factory raised.
    """
    for name in spec.options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS, where=f"model {spec.name}")
    if "factory" not in spec.options:
        raise BadInput(f"model {spec.name}: the option 'factory' is missing; give 'file.py:name' or 'module:name'.")
    text = str(spec.options["factory"])
    check_unchanged(text, spec.identity)
    try:
        calculator = _make(text, find(text), dict(spec.options.get("arguments", {})), device)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise MissingPackage(f"{text}: the module '{error.name}' is not installed", package=package) from error
    except CALCULATOR_ERRORS as error:
        raise ModelFailure(f"{text} could not be made: {_told(error)}") from error
    if not _is_calculator(calculator):
        raise BadInput(f"{text} gives an object of type {type(calculator).__name__}, which is not an ASE calculator.")
    return AseModel(spec=spec, bare=calculator)


def _make(text: str, found: Any, arguments: dict[str, Any], device: str) -> Any:
    """Call the factory, unless it is a calculator already."""
    if _is_calculator(found):
        if arguments:
            raise BadInput(f"{text} is a calculator already and takes no arguments, but was given {sorted(arguments)}.")
        return found
    if not callable(found):
        raise BadInput(f"{text} is of type {type(found).__name__}; a function, class or ASE calculator is needed.")
    signature = _signature(found)
    if signature is not None:
        if "device" in signature.parameters:
            arguments.setdefault("device", device)
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise BadInput(f"{text}{signature} cannot take the arguments {arguments}: {error}.") from error
    with _mace_may_load():
        return found(**arguments)


def _is_calculator(found: Any) -> bool:
    """Tell whether this is an instance that speaks ASE's calculator language."""
    return not isinstance(found, type) and hasattr(found, "get_potential_energy") and hasattr(found, "get_forces")


def _signature(found: Callable[..., Any]) -> inspect.Signature | None:
    """Return what the factory takes, or None where compiled code does not say."""
    try:
        return inspect.signature(found)
    except (TypeError, ValueError):
        return None


@contextmanager
def _mace_may_load() -> Iterator[None]:
    """Let MACE unpickle what a user's factory names.

    Importing MACE sets this variable and its calculator depends on it; our own MACE loader unsets it again, so a
    factory that runs after it in the same process would fail.
    """
    name, before = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    if "mace" not in sys.modules or before is not None:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AseModel:
    """A model that asks an ASE calculator, frame by frame.

    Attributes:
        spec: what it takes to make it again.
        bare: the calculator.
    """

    spec: ModelSpec
    bare: Calculator

    def calculator(self) -> Calculator:
        """Return the calculator as the factory made it."""
        return self.bare

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict each frame on a fresh copy of its atoms.

        Raises:
            ModelFailure: the calculator raised, gave a wrong shape or no finite number, or changed its atoms.
            NotApplicable: a frame holds an element that the calculator does not cover.
        """
        _refuse_elements(frames, self.spec.elements, "the model")
        _refuse_elements(frames, covered(self.bare), "the calculator")
        answers = [self._one(i, frame) for i, frame in enumerate(frames)]
        stresses = [stress for _, _, stress in answers]
        return Predictions(
            n_atoms=np.array([len(frame) for frame in frames], dtype=np.int64),
            energy=np.array([energy for energy, _, _ in answers], dtype=np.float64),
            forces=np.concatenate([np.zeros((0, 3)), *(forces for _, forces, _ in answers)]),
            stress=np.array([np.zeros((3, 3)) if x is None else x for x in stresses]).reshape(-1, 3, 3),
            has_stress=np.array([x is not None for x in stresses], dtype=bool),
        )

    def _one(self, i: int, frame: Atoms) -> tuple[float, Float, Float | None]:
        """Return energy, forces and, where there is one, stress of one frame."""
        where = f"frame {i} ({frame.get_chemical_formula()})"
        try:
            energy, forces, stress = _ask(self.bare, frame, where)
        except CALCULATOR_ERRORS as error:
            _blame(self.bare, frame, error, where)
        if forces.shape != (len(frame), 3):
            raise ModelFailure(
                f"{where}: the calculator returned forces of shape {forces.shape} for {len(frame)} atoms"
            )
        if energy.size != 1:
            raise ModelFailure(
                f"{where}: the calculator returned an energy of shape {energy.shape}; one number is needed"
            )
        return float(energy.item()), forces, stress


def _ask(calculator: Calculator, frame: Atoms, where: str) -> tuple[Float, Float, Float | None]:
    """Return energy, forces and, for a frame with three periods, stress; the calculator gets a copy of the frame."""
    atoms = frame.copy()
    atoms.set_constraint()  # constraints would hide forces
    # Without a reset, asking twice for one frame would return what is remembered and hide a random answer.
    reset = getattr(calculator, "reset", None)
    if callable(reset):
        reset()
    atoms.calc = calculator
    # Forces first: whatever computes them has the energy as well, while the reverse is not so.
    forces = np.array(atoms.get_forces(apply_constraint=False), dtype=np.float64)
    _refuse_changes(atoms, frame, where)  # now, because a second calculation may undo a change
    energy = np.array(atoms.get_potential_energy(), dtype=np.float64)
    stress = None
    if atoms.pbc.all() and "stress" in getattr(calculator, "implemented_properties", ("stress",)):
        try:
            stress = np.array(atoms.get_stress(voigt=False, apply_constraint=False), dtype=np.float64)
        except NotImplementedError:
            stress = None
    _refuse_changes(atoms, frame, where)
    return energy, forces, stress


def _refuse_changes(atoms: Atoms, frame: Atoms, where: str) -> None:
    """Raise when the calculator's atoms are no longer those of the frame, bit by bit."""
    for name in ("positions", "numbers", "cell", "pbc"):
        if not np.array_equal(np.asarray(getattr(atoms, name)), np.asarray(getattr(frame, name))):
            raise ModelFailure(f"{where}: the calculator changed the {name} of the atoms it was given")


def covered(calculator: Calculator) -> tuple[str, ...] | None:
    """Return the chemical symbols that a calculator says it covers, or None when it does not say.

    >>> from types import SimpleNamespace
    >>> covered(SimpleNamespace(z_table=SimpleNamespace(zs=[1, 8]))), covered(SimpleNamespace(species=3))
    (('H', 'O'), None)
    """
    from ase.data import atomic_numbers, chemical_symbols

    for name in ("z_table", "elements", "species", "allowed_atomic_numbers"):
        said = getattr(calculator, name, None)
        said = getattr(said, "zs", said)
        if said is None or isinstance(said, str) or not isinstance(said, Iterable):
            continue
        entries = [x.item() if isinstance(x, np.generic) else x for x in said]
        if entries and all(isinstance(x, str) and x in atomic_numbers for x in entries):
            return tuple(entries)
        if entries and all(type(x) is int and 0 < x < len(chemical_symbols) for x in entries):
            return tuple(chemical_symbols[x] for x in entries)
    return None


def _refuse_elements(frames: Sequence[Atoms], elements: Sequence[str] | None, who: str) -> None:
    """Raise when a frame holds an element outside this list; None allows all."""
    if elements is None:
        return
    for i, frame in enumerate(frames):
        missing = sorted(set(frame.symbols) - set(elements))
        if missing:
            raise NotApplicable(
                f"frame {i}: {who} does not cover {', '.join(missing)}; it covers {', '.join(elements)}"
            )


def _blame(calculator: Calculator, frame: Atoms, error: BaseException, where: str) -> NoReturn:
    """Raise what an error means: an element that is not covered, or a failure of the model."""
    missing = _uncovered(calculator, frame, error)
    if missing:
        raise NotApplicable(f"{where}: the calculator does not cover {', '.join(missing)} ({_told(error)})") from error
    raise ModelFailure(f"{where}: {_told(error)}") from error


def _uncovered(calculator: Calculator, frame: Atoms, error: BaseException) -> list[str]:
    """Return the elements of a frame that are what the calculator stumbled over.

    Calculators say this in many ways, so lone atoms are tried: an element is not covered when its lone atom raises
    the same kind of error, while that of another element, in this frame or else anywhere, does not.
    """
    from ase.calculators.calculator import PropertyNotImplementedError
    from ase.data import chemical_symbols

    symbols = sorted(set(frame.symbols))
    numbers = {str(chemical_symbols.index(symbol)) for symbol in symbols}
    is_named = bool(set(re.findall(r"\w+", str(error))) & {*symbols, *numbers})
    if isinstance(error, PropertyNotImplementedError) or not (
        is_named or isinstance(error, (NotImplementedError, LookupError))
    ):
        return []
    failing = [symbol for symbol in symbols if _stumbles(calculator, frame, symbol, type(error))]
    others = (symbol for symbol in chemical_symbols[1 : HEAVIEST_PROBED + 1] if symbol not in failing)
    if failing and any(not _stumbles(calculator, frame, symbol, Exception) for symbol in others):
        return failing
    return []


def _stumbles(calculator: Calculator, frame: Atoms, symbol: str, kind: type[BaseException]) -> bool:
    """Tell whether a lone atom of this element, in the frame's cell, raises this kind of error."""
    from ase import Atoms

    lone = Atoms(symbol, cell=frame.cell, pbc=frame.pbc)
    try:
        _ask(calculator, lone, f"a lone {symbol} atom")
    except CALCULATOR_ERRORS as error:
        return isinstance(error, kind)
    return False


def _told(error: BaseException) -> str:
    """Say an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
