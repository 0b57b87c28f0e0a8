"""A linear ACE file is a model; one that holds members is a committee."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from mlipbench.ace.file import AceFile, parse
from mlipbench.ace.neighbours import Neighbours, SkinList, neighbours
from mlipbench.ace.posterior import FrameSpread, Noise, Posterior
from mlipbench.ace.potential import Evaluation, LinearAce, has_stress, species_of
from mlipbench.core.model import Float, ModelSpec, Predictions, Spread
from mlipbench.errors import BadInput, ModelFailure, NotApplicable, unknown
from mlipbench.models import checkpoint

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mlipbench.models.ace_batch import AceBatch

OPTIONS: Final = ("backend", "std")
BACKENDS: Final = ("numba", "torch")
STDS: Final = ("analytic", "members")
BATCH_ATOMS: Final = 4096  # whose neighbours are kept at a time


def load(spec: ModelSpec, *, device: str) -> AceModel:
    """Read a linear ACE; where its file holds members, it is an `AceCommittee`.

    Options are "backend", "numba" (one core of the processor, whatever the device) or "torch" (on the device), by
    default numba on "cpu" and torch elsewhere; and, for a committee, "std": "members" for the spread of the members, or
    "analytic" for that of the posterior they were drawn from, the default where the file holds it.

    Raises:
        BadInput: there is no checkpoint, it cannot be read, is not the one the spec names, or an option is wrong.
        NotApplicable: torch is needed and not installed, or there is no such device.
    """
    for name in spec.options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS, where=f"model {spec.name}")
    content = checkpoint.read(spec, what="an ACE")
    return _model(spec, parse(content, name=str(spec.checkpoint)), device=device)


def _model(spec: ModelSpec, file: AceFile, *, device: str) -> AceModel:
    """Return the model that a file and the options make."""
    potential, known = file.potential, file.uncertainty
    backend = spec.options.get("backend", "numba" if device == "cpu" else "torch")
    if backend not in BACKENDS:
        raise unknown("backend", str(backend), BACKENDS, where=f"model {spec.name}")
    spec = replace(spec, elements=symbols(potential.basis.numbers))
    evaluator = _evaluator(potential, backend=backend, device=device)
    if known is None:
        if "std" in spec.options:
            raise BadInput(
                f"model {spec.name}: option std needs a file with members; train with posterior = 'members'."
            )
        return AceModel(spec=spec, potential=potential, evaluator=evaluator)
    std = spec.options.get("std", "members" if known.factor is None else "analytic")
    if std not in STDS:
        raise unknown("std", str(std), STDS, where=f"model {spec.name}")
    posterior = None
    if std == "analytic":
        if known.factor is None:
            raise BadInput(f"model {spec.name}: std = 'analytic' needs a file with the whole posterior: train it with "
                           "posterior = 'full', or take std = 'members'.")  # fmt: skip
        posterior = Posterior(potential=potential, factor=known.factor, noise=known.noise)
    members = tuple(
        _evaluator(replace(potential, weights=weights), backend=backend, device=device) for weights in known.members
    )
    return AceCommittee(
        spec=spec, potential=potential, evaluator=evaluator, members=members, noise=known.noise, posterior=posterior
    )


def symbols(numbers: Sequence[int]) -> tuple[str, ...]:
    """Return the chemical symbols of atomic numbers."""
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[number] for number in numbers)


class Evaluator(Protocol):
    """One set of coefficients on one kind of hardware."""

    def evaluate_many(self, frames: Sequence[Atoms], pairs: Sequence[Neighbours] | None = None) -> list[Evaluation]:
        """Return what the potential says of each frame."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _OneByOne:
    """The compiled loops of `LinearAce`, frame by frame."""

    potential: LinearAce

    def evaluate_many(self, frames: Sequence[Atoms], pairs: Sequence[Neighbours] | None = None) -> list[Evaluation]:
        """Return what the potential says of each frame."""
        known = [None] * len(frames) if pairs is None else pairs
        return [self.potential.evaluate(frame, found) for frame, found in zip(frames, known, strict=True)]


def _evaluator(potential: LinearAce, *, backend: str, device: str) -> Evaluator:
    if backend == "numba":
        return _OneByOne(potential=potential)
    from mlipbench.ace.torch_kernels import TorchAce

    made: Evaluator = TorchAce(potential, device=device)
    return made


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AceModel:
    """A linear ACE.

    Attributes:
        spec: what it takes to make it again.
        potential: the fitted ACE.
        evaluator: computes it.
    """

    spec: ModelSpec
    potential: LinearAce
    evaluator: Evaluator

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict all frames; a stress stands only where a frame is periodic in all directions.

        Raises:
            ModelFailure: two atoms lie on top of each other.
            NotApplicable: a frame holds an element that the model does not cover.
            BadInput: positions or cell make no sense.
        """
        return _predictions(self._evaluate(frames, (self.evaluator,))[0])

    def atom_energies(self) -> dict[str, float]:
        """Return the energy in eV of a lone atom of each element, as the potential keeps it."""
        e0_eV: list[float] = self.potential.e0_eV.tolist()
        return dict(zip(symbols(self.potential.basis.numbers), e0_eV, strict=True))

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        """Return the energy of each atom in eV, shape (n_atoms_total,), frame after frame.

        Raises:
            ModelFailure, NotApplicable, BadInput: as `predict`.
        """
        found = self._evaluate(frames, (self.evaluator,))[0]
        return np.concatenate([np.zeros(0), *(one.site_energies for one in found)])

    def site_features(self, frames: Sequence[Atoms]) -> Float:
        """Return the basis functions of each atom, shape (n_atoms_total, n_functions), frame after frame.

        Raises:
            ModelFailure, NotApplicable, BadInput: as `predict`.
        """
        from mlipbench.ace.features import ace_features

        basis = self.potential.basis
        found = [
            ace_features(frame, basis, pairs)
            for chunk, known in self._batches(frames)
            for frame, pairs in zip(chunk, known, strict=True)
        ]
        return np.concatenate([np.zeros((0, self.potential.weights.shape[1])), *found])

    def calculator(self) -> Calculator:
        """Return an ASE calculator with energy, site energies ("energies"), forces and stress.

        That of a committee also answers "energy_std" (eV) and "forces_std" (eV/Å), as `predict_std` does.
        """
        return _calculator(self)

    def batch(self, frames: Sequence[Atoms]) -> AceBatch:
        """Return what evaluates these frames again and again while their atoms move.

        Raises:
            NotApplicable: a frame holds an element that the model does not cover.
        """
        from mlipbench.models.ace_batch import AceBatch

        for frame in frames:
            species_of(frame, self.potential.basis.numbers)
        return AceBatch(self, frames)

    def _evaluate(self, frames: Sequence[Atoms], evaluators: Sequence[Evaluator]) -> list[list[Evaluation]]:
        """Return what each evaluator says of all frames; they share the neighbour lists."""
        found: list[list[Evaluation]] = [[] for _ in evaluators]
        for chunk, pairs in self._batches(frames):
            for answers, evaluator in zip(found, evaluators, strict=True):
                answers.extend(evaluator.evaluate_many(chunk, pairs))
        return found

    def _batches(self, frames: Sequence[Atoms]) -> Iterator[tuple[list[Atoms], list[Neighbours]]]:
        """Yield some frames at a time with their neighbours; a frame that cannot be predicted is named."""
        basis = self.potential.basis
        chunk: list[Atoms] = []
        pairs: list[Neighbours] = []
        n_atoms = 0
        for i, frame in enumerate(frames):
            if chunk and n_atoms + len(frame) > BATCH_ATOMS:
                yield chunk, pairs
                chunk, pairs, n_atoms = [], [], 0
            try:
                species_of(frame, basis.numbers)
                pairs.append(neighbours(frame, basis.cutoff_A))
            except (ModelFailure, NotApplicable, BadInput) as error:
                raise type(error)(f"frame {i}: {error}") from error
            chunk.append(frame)
            n_atoms += len(frame)
        if chunk:
            yield chunk, pairs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AceCommittee(AceModel):
    """A linear ACE with members drawn from the posterior of its coefficients; it predicts by their mean.

    Attributes:
        members: one evaluator for each.
        noise: of the labels; its square adds to that of a standard deviation for the spread of new labels.
        posterior: where the standard deviation is the analytic one; None where it is that of the members.
    """

    members: tuple[Evaluator, ...]
    noise: Noise
    posterior: Posterior | None

    def predict_members(self, frames: Sequence[Atoms]) -> tuple[Predictions, ...]:
        """Predict all frames by each member.

        Raises:
            ModelFailure, NotApplicable, BadInput: as `predict`.
        """
        return tuple(_predictions(found) for found in self._evaluate(frames, self.members))

    def predict_std(self, frames: Sequence[Atoms]) -> Spread:
        """Return the standard deviation of the posterior, or that of the members around the mean's prediction.

        Members are compared with the mean coefficients, which they were drawn around, and not with their own average;
        so the sum of squares is divided by their number, and its expectation is the variance of the posterior.

        Raises:
            ModelFailure, NotApplicable, BadInput: as `predict`.
        """
        found = [one for chunk, pairs in self._batches(frames) for one in self._spreads(chunk, pairs)]
        return Spread(
            energy_std=np.array([one.energy_std for one in found], dtype=np.float64),
            forces_std=np.concatenate([np.zeros((0, 3)), *(one.forces_std for one in found)]),
        )

    def spread(self, frame: Atoms, pairs: Neighbours | None = None) -> FrameSpread:
        """Return the standard deviations of one frame's energy, forces and stress; see `predict_std`.

        Args:
            frame: structure.
            pairs: its neighbours within the cutoff (or a little more), when they are known already.

        Raises:
            ModelFailure, NotApplicable, BadInput: as `predict`.
        """
        return self._spreads([frame], [neighbours(frame, self.potential.basis.cutoff_A) if pairs is None else pairs])[0]

    def _spreads(self, frames: Sequence[Atoms], pairs: Sequence[Neighbours]) -> list[FrameSpread]:
        if self.posterior is not None:
            return [self.posterior.spread(frame, known) for frame, known in zip(frames, pairs, strict=True)]
        found = [one.evaluate_many(frames, pairs) for one in (self.evaluator, *self.members)]
        return [_apart(mean, members) for mean, *members in zip(*found, strict=True)]


def _apart(mean: Evaluation, members: Sequence[Evaluation]) -> FrameSpread:
    """Return the root of the mean square distance of members from the prediction of the mean coefficients."""

    def root(given: Sequence[Any], centre: Any) -> Float:
        found: Float = np.sqrt(np.mean(np.square(np.array(given) - centre), axis=0))
        return found

    return FrameSpread(
        energy_std=float(root([one.energy for one in members], mean.energy)),
        forces_std=root([one.forces for one in members], mean.forces),
        stress_std=None if mean.stress is None else root([one.stress for one in members], mean.stress),
    )


def _predictions(found: Sequence[Evaluation]) -> Predictions:
    none = np.zeros((3, 3))
    return Predictions(
        n_atoms=np.array([len(one.forces) for one in found], dtype=np.int64),
        energy=np.array([one.energy for one in found], dtype=np.float64),
        forces=np.concatenate([np.zeros((0, 3)), *(one.forces for one in found)]),
        stress=np.array([none if one.stress is None else one.stress for one in found]).reshape(-1, 3, 3),
        has_stress=np.array([one.stress is not None for one in found], dtype=bool),
    )


def _calculator(model: AceModel) -> Calculator:
    """Return the calculator; the class is made here so that ASE is imported late."""
    from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    spreads = ("energy_std", "forces_std") if isinstance(model, AceCommittee) else ()
    known = SkinList(model.potential.basis.cutoff_A)

    class AceCalculator(Calculator):  # type: ignore[misc]
        """The linear ACE for ASE; it keeps its neighbour list while atoms move little."""

        implemented_properties: Final = ["energy", "free_energy", "energies", "forces", "stress", *spreads]
        elements = symbols(model.potential.basis.numbers)

        def calculate(
            self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
        ) -> None:
            if system_changes:  # before anything can fail, so that no later call finds another structure's results
                self.results: dict[str, Any] = {}
            super().calculate(atoms, properties, system_changes)
            if "stress" in properties and not has_stress(self.atoms):
                raise PropertyNotImplementedError("the stress needs a frame that is periodic in all directions")
            pairs = known.pairs(self.atoms)
            if "energy" not in self.results:
                self._evaluate(pairs)
            if isinstance(model, AceCommittee) and not {*spreads}.isdisjoint(properties):
                spread = model.spread(self.atoms, pairs)
                self.results |= {"energy_std": spread.energy_std, "forces_std": spread.forces_std}

        def _evaluate(self, pairs: Neighbours) -> None:
            found = model.evaluator.evaluate_many([self.atoms], [pairs])[0]
            self.results |= {
                "energy": found.energy,
                "free_energy": found.energy,
                "energies": found.site_energies,
                "forces": found.forces,
            }
            if found.stress is not None:
                self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress)

    return AceCalculator()
