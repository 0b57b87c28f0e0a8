"""Does a model keep the promises of `core.model.Model`?

For our models and for anyone's: `check_model(model, small_frames())` in a test is all it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.core.model import Bool, Committee, Float, Model, Predictions, SiteEnergies, Spread
from mlipbench.errors import NotApplicable

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far two answers to one question may lie apart.

    Attributes:
        energy_eV_per_atom: of energies, per atom.
        forces_eV_per_A: of each component.
        stress_eV_per_A3: of each component.
    """

    energy_eV_per_atom: float
    forces_eV_per_A: float
    stress_eV_per_A3: float


DOUBLE: Final = Tolerance(energy_eV_per_atom=1e-9, forces_eV_per_A=1e-8, stress_eV_per_A3=1e-9)
SINGLE: Final = Tolerance(energy_eV_per_atom=2e-5, forces_eV_per_A=5e-4, stress_eV_per_A3=2e-5)


def check_model(model: Model, frames: Sequence[Atoms], *, tolerance: Tolerance | None = None) -> None:
    """Run every promise of the contract.

    Args:
        model: any.
        frames: structures it covers, of a few atoms and of several kinds, such as `testing.frames.small_frames()`.
        tolerance: when not given, `SINGLE` for a model whose spec has the option dtype = "float32", else `DOUBLE`.

    Raises:
        AssertionError: a promise is broken; the text says which.
        ModelFailure: the model says itself that it failed.
    """
    if tolerance is None:
        tolerance = SINGLE if model.spec.options.get("dtype") == "float32" else DOUBLE
    for check in CHECKS:
        check(model, frames, tolerance)


def check_noun(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """It has a spec, predict and calculator, and its spec covers the frames."""
    _require(isinstance(model, Model), f"{type(model).__name__} lacks spec, predict or calculator")
    covered = model.spec.elements
    if covered is not None:
        missing = sorted({symbol for frame in frames for symbol in frame.symbols} - set(covered))
        _require(not missing, f"the frames hold {', '.join(missing)}, which the model's spec does not list")


def check_no_frames(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """No frames give empty arrays."""
    _require(len(model.predict([]).energy) == 0, "no frames must give no energies")


def check_shapes(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """Arrays are double precision and in the frames' order; only a frame with three periods has a stress."""
    found = model.predict(frames)
    wanted = [len(frame) for frame in frames]
    _require(found.n_atoms.tolist() == wanted, f"n_atoms is {found.n_atoms.tolist()} for frames of {wanted} atoms")
    for name in ("energy", "forces", "stress"):
        kind = getattr(found, name).dtype
        _require(kind == np.float64, f"{name} is of {kind}; float64 is needed")
    for i, frame in enumerate(frames):
        _require(bool(frame.pbc.all()) or not found.has_stress[i], f"frame {i} is not periodic, and has a stress")
    _require(
        not np.any(found.stress[~found.has_stress]), "where there is no stress it must be zero, so that sums stay right"
    )


def check_frames_untouched(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """The frames are as before, bit by bit, and carry no calculator."""
    before = [frame.copy() for frame in frames]
    model.predict(frames)
    for i, (frame, old) in enumerate(zip(frames, before, strict=True)):
        for name in ("positions", "numbers", "cell", "pbc"):
            same = np.array_equal(np.asarray(getattr(frame, name)), np.asarray(getattr(old, name)))
            _require(same, f"predict changed the {name} of frame {i}")
        _require(set(frame.arrays) == set(old.arrays), f"predict changed the arrays of frame {i}")
        _require(set(frame.info) == set(old.info), f"predict changed the info of frame {i}")
        _require(frame.calc is None, f"predict left a calculator on frame {i}")


def check_same_again(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """Asked twice, it answers the same."""
    _same(model.predict(frames), model.predict(frames), tolerance, "asked twice, the model gives two answers")


def check_one_by_one(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """Many frames at once give what each gives alone."""
    alone = join([model.predict([frame]) for frame in frames])
    _same(model.predict(frames), alone, tolerance, "many frames at once differ from one by one")


def check_order_of_frames(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """Answers come in the order of the frames."""
    found = model.predict(frames)
    backwards = take(found, range(len(frames) - 1, -1, -1))
    _same(model.predict(frames[::-1]), backwards, tolerance, "answers do not follow the order of the frames")


def check_order_of_atoms(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """Naming the atoms in another order changes no energy, and forces follow their atoms."""
    rng = np.random.default_rng(1)
    orders = [rng.permutation(len(frame)) for frame in frames]
    found = model.predict(frames)
    shuffled = model.predict([frame[order] for frame, order in zip(frames, orders, strict=True)])
    rows = [start + order for start, order in zip(found.offsets[:-1], orders, strict=True)]
    wanted = _with_forces(found, found.forces[np.concatenate([np.zeros(0, dtype=np.int64), *rows])])
    _same(shuffled, wanted, tolerance, "the answer depends on the order of the atoms")


def check_periods(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """An atom may stand in any image of its cell, and two cells hold twice the energy of one."""
    periodic = [frame for frame in frames if frame.pbc.all()]
    moved = [frame.copy() for frame in periodic]
    for frame in moved:
        frame.positions[0] += frame.cell[0] - 2 * frame.cell[2]
    found = model.predict(periodic)
    _same(model.predict(moved), found, tolerance, "the answer changes when an atom moves by a lattice vector")
    double = model.predict([frame.repeat((1, 2, 1)) for frame in periodic])
    wanted = Predictions(
        n_atoms=2 * found.n_atoms,
        energy=2 * found.energy,
        forces=np.concatenate([np.zeros((0, 3)), *(np.tile(part, (2, 1)) for part in _split(found))]),
        stress=found.stress,
        has_stress=found.has_stress,
    )
    _same(double, wanted, tolerance, "two cells side by side are not twice one cell")


def check_lone_atoms(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """One atom alone has an energy and no force."""
    from ase import Atoms

    symbols = sorted({str(symbol) for frame in frames for symbol in frame.symbols})
    found = model.predict([Atoms(symbol, [[0.3, 0.2, 0.1]]) for symbol in symbols])
    for symbol, force in zip(symbols, found.forces, strict=True):
        largest = float(np.abs(force).max())
        _require(largest <= tolerance.forces_eV_per_A, f"a lone {symbol} atom feels a force of {largest:.2g} eV/Å")


def check_calculator(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """The ASE calculator answers as `predict` does."""
    found = model.predict(frames)
    energy, forces, stress = [], [np.zeros((0, 3))], found.stress.copy()
    for i, frame in enumerate(frames):
        atoms = frame.copy()
        atoms.calc = model.calculator()
        energy.append(float(atoms.get_potential_energy()))
        forces.append(np.array(atoms.get_forces(), dtype=np.float64))
        if found.has_stress[i]:
            stress[i] = atoms.get_stress(voigt=False)
    given = Predictions(
        n_atoms=found.n_atoms, energy=np.array(energy), forces=np.concatenate(forces), stress=stress,
        has_stress=found.has_stress,
    )  # fmt: skip
    _same(given, found, tolerance, "the calculator and predict differ")


def check_elements(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """A model that lists its elements says "not applicable" to another one, and makes no number up."""
    from ase import Atoms
    from ase.data import chemical_symbols

    covered = model.spec.elements
    foreign = next((x for x in reversed(chemical_symbols[1:]) if covered is not None and x not in covered), None)
    if foreign is None:
        return
    try:
        model.predict([Atoms(foreign, [[0.0, 0.0, 0.0]])])
    except NotApplicable:
        return
    raise AssertionError(f"the model's spec does not list {foreign}, and predict answers for it; raise NotApplicable")


def check_site_energies(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """Where there are site energies, they add up to the energy."""
    if not isinstance(model, SiteEnergies):
        return
    found = model.predict(frames)
    sites = np.split(model.site_energies(frames), found.offsets[1:-1]) if frames else []
    added = Predictions(
        n_atoms=found.n_atoms, energy=np.array([part.sum() for part in sites]), forces=found.forces,
        stress=found.stress, has_stress=found.has_stress,
    )  # fmt: skip
    _same(added, found, tolerance, "site energies do not add up to the energy")


def check_committee(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """Where there are members, each answers for the same frames, and their spread is finite and not negative."""
    if not isinstance(model, Committee):
        return
    found, spread = model.predict(frames), model.predict_std(frames)
    members = model.predict_members(frames)
    _require(len(members) > 0, "a committee has no members")
    for i, member in enumerate(members):
        same = np.array_equal(member.n_atoms, found.n_atoms) and np.array_equal(member.has_stress, found.has_stress)
        _require(same, f"member {i} answers for other frames than the model, or for other stresses")
    for name, wanted in (("energy_std", found.energy), ("forces_std", found.forces)):
        given = getattr(spread, name)
        _require(given.shape == wanted.shape, f"{name} has shape {given.shape}; {wanted.shape} is needed")
        _require(given.dtype == np.float64, f"{name} is of {given.dtype}; float64 is needed")
        _require(bool(np.isfinite(given).all()), f"{name} is not finite")
        _require(not (given < 0.0).any(), f"{name} is negative")


def check_spread(model: Model, frames: Sequence[Atoms], tolerance: Tolerance) -> None:
    """A committee's spread is the same when asked twice, frame by frame, and by its ASE calculator."""
    if not isinstance(model, Committee):
        return
    found, spread = model.predict(frames), model.predict_std(frames)
    for says, again in (
        ("asked twice, the committee gives two spreads", model.predict_std(frames)),
        ("spreads of many frames at once differ from one by one", _joined(model.predict_std([x]) for x in frames)),
        ("the spreads of the calculator and of predict_std differ", _joined(_asked(model, x) for x in frames)),
    ):
        _same(_as_predictions(again, found), _as_predictions(spread, found), tolerance, says)


CHECKS: Final[tuple[Callable[[Model, Sequence[Atoms], Tolerance], None], ...]] = (
    check_noun, check_no_frames, check_shapes, check_frames_untouched, check_same_again, check_one_by_one,
    check_order_of_frames, check_order_of_atoms, check_periods, check_lone_atoms, check_calculator, check_elements,
    check_site_energies, check_committee, check_spread,
)  # fmt: skip


def join(parts: Sequence[Predictions]) -> Predictions:
    """Return predictions one after another."""
    no_flags: Bool = np.zeros(0, dtype=bool)
    return Predictions(
        n_atoms=np.concatenate([np.zeros(0, dtype=np.int64), *(part.n_atoms for part in parts)]),
        energy=np.concatenate([np.zeros(0), *(part.energy for part in parts)]),
        forces=np.concatenate([np.zeros((0, 3)), *(part.forces for part in parts)]),
        stress=np.concatenate([np.zeros((0, 3, 3)), *(part.stress for part in parts)]),
        has_stress=np.concatenate([no_flags, *(part.has_stress for part in parts)]),
    )


def take(found: Predictions, chosen: Sequence[int]) -> Predictions:
    """Return the predictions of the frames with these numbers, in this order."""
    forces = _split(found)
    order = np.array(chosen, dtype=np.int64)
    return Predictions(
        n_atoms=found.n_atoms[order], energy=found.energy[order], stress=found.stress[order],
        forces=np.concatenate([np.zeros((0, 3)), *(forces[i] for i in chosen)]), has_stress=found.has_stress[order],
    )  # fmt: skip


def _split(found: Predictions) -> list[Float]:
    """Return the forces of each frame."""
    return [found.forces[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def _with_forces(found: Predictions, forces: Float) -> Predictions:
    """Return predictions with other forces."""
    return Predictions(
        n_atoms=found.n_atoms, energy=found.energy, forces=forces, stress=found.stress, has_stress=found.has_stress
    )


def _joined(spreads: Iterable[Spread]) -> Spread:
    """Return spreads one after another."""
    parts = list(spreads)
    return Spread(
        energy_std=np.concatenate([np.zeros(0), *(part.energy_std for part in parts)]),
        forces_std=np.concatenate([np.zeros((0, 3)), *(part.forces_std for part in parts)]),
    )


def _asked(model: Model, frame: Atoms) -> Spread:
    """Return the spread of one frame as the ASE calculator answers it."""
    calculator, atoms = model.calculator(), frame.copy()
    for name in ("energy_std", "forces_std"):
        _require(name in calculator.implemented_properties, f"the calculator of a committee does not list {name}")
    return Spread(
        energy_std=np.array([calculator.get_property("energy_std", atoms)], dtype=np.float64),
        forces_std=np.array(calculator.get_property("forces_std", atoms), dtype=np.float64),
    )


def _as_predictions(spread: Spread, found: Predictions) -> Predictions:
    """Return a spread in the place of energies and forces, for comparison."""
    return Predictions(
        n_atoms=found.n_atoms, energy=spread.energy_std, forces=spread.forces_std,
        stress=np.zeros_like(found.stress), has_stress=np.zeros_like(found.has_stress),
    )  # fmt: skip


def _same(found: Predictions, wanted: Predictions, tolerance: Tolerance, says: str) -> None:
    """Raise when two predictions lie further apart than the tolerance, and say by how much and where."""
    _require(np.array_equal(found.n_atoms, wanted.n_atoms), f"{says}: the numbers of atoms differ")
    _require(np.array_equal(found.has_stress, wanted.has_stress), f"{says}: one has a stress where the other has none")
    apart = {
        "energy": (np.abs(found.energy - wanted.energy) / found.n_atoms, tolerance.energy_eV_per_atom, "eV/atom"),
        "forces": (np.abs(found.forces - wanted.forces), tolerance.forces_eV_per_A, "eV/Å"),
        "stress": (np.abs(found.stress - wanted.stress), tolerance.stress_eV_per_A3, "eV/Å^3"),
    }
    frame_of_atom = np.repeat(np.arange(len(found.n_atoms)), found.n_atoms)
    for name, (distance, allowed, unit) in apart.items():
        if distance.size == 0 or distance.max() <= allowed:
            continue
        row = int(np.unravel_index(int(np.argmax(distance)), distance.shape)[0])
        frame = int(frame_of_atom[row]) if name == "forces" else row
        raise AssertionError(
            f"{says}: {name} by {distance.max():.2g} {unit} in frame {frame}; {allowed:.0e} is allowed"
        )


def _require(holds: bool, says: str) -> None:  # noqa: FBT001  # an assertion's own form
    """Raise with this text unless it holds."""
    if not holds:
        raise AssertionError(says)
