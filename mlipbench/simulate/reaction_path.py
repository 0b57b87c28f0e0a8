"""Over which saddle does a model go from one minimum to another?

A band of images between two end points is pulled taut across the energy: springs hold the images apart along the band,
forces move them sideways (nudged elastic band), and in a second phase the highest image climbs to the saddle. The band,
its springs and the optimiser are ASE's; what is ours is that all images are evaluated in one question to the model.

Source: G. Henkelman & H. Jónsson, J. Chem. Phys. 113, 9978 (2000), doi:10.1063/1.1323224 (tangents); G. Henkelman,
B. P. Uberuaga & H. Jónsson, J. Chem. Phys. 113, 9901 (2000), doi:10.1063/1.1329672 (the climbing image).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.core.benchmark import no_progress
from mlipbench.core.model import Float, Model, Progress
from mlipbench.errors import BadInput, ModelFailure, unknown
from mlipbench.physics.vibrations import superposition
from mlipbench.simulate.driver import Relaxed, relax

if TYPE_CHECKING:
    from ase import Atoms
    from ase.mep import NEB

METHODS: Final = ("improvedtangent", "aseneb")
FEWEST_IMAGES: Final = 3
CLIMBS_FROM: Final = 10.0  # times the force that is wanted in the end; nearer to the path before the climb is wasted
CLEAR_HUMP_EV: Final = 0.05  # a lower one may be what is left of a band that has not come to rest
LOWEST_HUMP_EV: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReactionPath:
    """A chain of structures from one minimum to another, over what lies between them.

    Attributes:
        images: from end to end.
        energy_eV: shape (n_images,).
        forces_eV_A: shape (n_images, n_atoms, 3), the model's own, without springs.
        ends_rest: did both end points come to rest? If not, the images between them were left where they were.
        converged: is every force on the band small, that on the climbing image among them?
        n_steps: of the band, both phases together.
        n_calls: questions to the model for them, each about all images that had moved.
        largest_force_eV_A: what is left on an atom: of the band with its springs, or of the end points where these did
            not come to rest.
    """

    images: tuple[Atoms, ...]
    energy_eV: Float
    forces_eV_A: Float
    ends_rest: bool
    converged: bool
    n_steps: int
    n_calls: int
    largest_force_eV_A: float

    @property
    def saddle(self) -> int:
        """Number of the highest image; that of an end point where nothing between them is higher."""
        return int(np.argmax(self.energy_eV))

    @property
    def barrier_eV(self) -> float:
        """Energy of the highest image less that of the first; never negative."""
        return float(self.energy_eV.max() - self.energy_eV[0])

    @property
    def reaction_energy_eV(self) -> float:
        """Energy of the last image less that of the first."""
        return float(self.energy_eV[-1] - self.energy_eV[0])


def climbing_path(
    model: Model,
    images: Sequence[Atoms],
    *,
    largest_force_eV_A: float = 0.01,
    n_steps: int = 500,
    n_end_steps: int = 2000,
    spring_eV_A2: float = 1.0,
    method: str = "improvedtangent",
    superpose: bool = True,
    progress: Progress = no_progress,
) -> ReactionPath:
    """Relax both end points and then the band between them, at last with its highest image climbing.

    A band that does not converge is returned as it is. No image climbs where none is more than 1 meV above both ends.

    Args:
        model: asked about all images at once.
        images: where to begin, three or more, from end to end, the same atoms in the same cell; they are not changed,
            and constraints they may have are not kept.
        largest_force_eV_A: end points and band are at rest when no force on an atom is larger.
        n_steps: of the band, at most.
        n_end_steps: of the end points, at most.
        spring_eV_A2: stiffness of the springs between neighbouring images.
        method: "improvedtangent", or "aseneb" for ASE's older tangents.
        superpose: is the band without shifts, and without a cell without turns, of the whole to begin with? Only in a
            field from outside they would be part of the path; elsewhere they lead tangents astray, since no force
            points along them.
        progress: called with steps done, steps that are left at most, and the force that is left, phase by phase.

    Raises:
        BadInput: a parameter is out of range, or the images are no path.
        ModelFailure: the model is at fault.
        NotApplicable: the model does not cover these atoms.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS, where="reaction path")
    if not min(largest_force_eV_A, spring_eV_A2, n_steps, n_end_steps) > 0:
        raise BadInput(
            f"reaction path: the largest force, {largest_force_eV_A} eV/Å, the springs, {spring_eV_A2} eV/Å², and the"
            f" steps, {n_steps} and {n_end_steps} for the end points, must all be positive"
        )
    refuse_no_path(images, where="reaction path")
    ends = relax(model, [images[0], images[-1]], n_steps=n_end_steps, force_eV_A=largest_force_eV_A)
    _refuse_failure(ends)
    start = between([one.atoms for one in ends], images)
    band = _Band(model, superposed(start) if superpose else start)
    if not all(one.rests for one in ends):
        return band.as_it_is(converged=False, ends_rest=False, n_steps=0, largest_force_eV_A=band.on_ends_eV_A())
    springs = band.with_springs(spring_eV_A2, method)
    n_done = _pull_taut(springs, CLIMBS_FROM * largest_force_eV_A, n_steps, progress)
    if band.hump_eV() < CLEAR_HUMP_EV:
        n_done += _pull_taut(springs, largest_force_eV_A, n_steps - n_done, progress)
    # On a band without a hump, as where both ends slide to one minimum, an image would climb out of sight.
    springs.climb = band.hump_eV() > LOWEST_HUMP_EV
    if springs.climb:
        n_done += _pull_taut(springs, largest_force_eV_A, n_steps - n_done, progress)
    left_eV_A = _largest(springs)
    return band.as_it_is(
        converged=left_eV_A < largest_force_eV_A, ends_rest=True, n_steps=n_done, largest_force_eV_A=left_eV_A
    )


def refuse_no_path(images: Sequence[Atoms], *, where: str) -> None:
    """Refuse images that cannot be a path.

    Raises:
        BadInput: there are fewer than three, or they differ in atoms or cell.
    """
    if len(images) < FEWEST_IMAGES:
        raise BadInput(f"{where}: a path has three images or more, from end to end; this one has {len(images)}")
    first = images[0]
    for i, image in enumerate(images):
        if not np.array_equal(image.numbers, first.numbers):
            raise BadInput(f"{where}: image {i} has other atoms than the first, or in another order")
        if not (np.array_equal(image.pbc, first.pbc) and np.allclose(image.cell.array, first.cell.array, atol=1e-6)):
            raise BadInput(f"{where}: image {i} has another cell than the first; cells are fixed along a path")


def between(ends: Sequence[Atoms], images: Sequence[Atoms]) -> list[Atoms]:
    """Return images that begin and end where they should, those between moved along in proportion.

    Args:
        ends: the two new end points.
        images: from end to end.

    Returns:
        New images without constraints.
    """
    moves = [end.positions - image.positions for end, image in zip(ends, (images[0], images[-1]), strict=True)]
    found = []
    for image, share in zip(images, np.linspace(0.0, 1.0, len(images)), strict=True):
        atoms = image.copy()
        atoms.set_constraint()
        atoms.positions = image.positions + (1.0 - share) * moves[0] + share * moves[1]
        found.append(atoms)
    return found


def superposed(images: Sequence[Atoms]) -> list[Atoms]:
    """Return images each of which lies on the one before it as well as it can: shifted, and turned without a cell."""
    found = [images[0].copy()]
    for image in images[1:]:
        before, atoms = found[-1].positions, image.copy()
        atoms.positions -= atoms.positions.mean(axis=0)
        if not atoms.pbc.any():
            atoms.positions = atoms.positions @ superposition(atoms.positions, before, np.ones(len(atoms))).T
        atoms.positions += before.mean(axis=0)
        found.append(atoms)
    return found


def _refuse_failure(ends: Sequence[Relaxed]) -> None:
    for name, end in zip(("first", "last"), ends, strict=True):
        if end.failure:
            raise ModelFailure(f"{name} end point of a reaction path: {end.failure}")


def _pull_taut(springs: NEB, wanted_eV_A: float, n_steps: int, progress: Progress) -> int:
    """Move the band until its forces are small or no steps are left, and return how many it took."""
    from ase.optimize import FIRE

    phase = "climbing" if springs.climb else "band"
    with FIRE(springs, logfile=None) as optimiser:
        for _ in optimiser.irun(fmax=wanted_eV_A, steps=n_steps):
            progress(optimiser.nsteps, n_steps, f"{phase}, {_largest(springs):.3g} eV/Å left")
        taken: int = optimiser.nsteps
    return taken


def _largest(springs: NEB) -> float:
    """Return the largest force on an atom of the band, eV/Å; the model is not asked again."""
    return float(np.linalg.norm(springs.get_forces(), axis=1).max())


class _Band:
    """All images of a path, and what the model last said of each."""

    def __init__(self, model: Model, images: Sequence[Atoms]) -> None:
        """Keep the images; nothing is asked yet."""
        self._model, self._images = model, list(images)
        self._asked_at = np.full((len(images), len(images[0]), 3), np.nan)
        self.energy_eV = np.zeros(len(images))
        self.forces_eV_A = np.zeros((len(images), len(images[0]), 3))
        self.n_calls = 0

    def refresh(self) -> None:
        """Ask about every image that has moved since it was last asked about, all in one question."""
        moved = [i for i, one in enumerate(self._images) if not np.array_equal(one.positions, self._asked_at[i])]
        if not moved:
            return
        said = self._model.predict([self._bare(i) for i in moved])
        self.n_calls += 1
        self.energy_eV[moved] = said.energy
        self.forces_eV_A[moved] = said.forces.reshape(len(moved), -1, 3)
        self._asked_at[moved] = [self._images[i].positions for i in moved]

    def on_ends_eV_A(self) -> float:
        """Return the largest force on an atom of the end points."""
        self.refresh()
        return float(np.linalg.norm(self.forces_eV_A[[0, -1]], axis=2).max())

    def hump_eV(self) -> float:
        """Return by how much the highest image between the end points is above the higher one of them."""
        self.refresh()
        return float(self.energy_eV[1:-1].max() - self.energy_eV[[0, -1]].max())

    def with_springs(self, spring_eV_A2: float, method: str) -> NEB:
        """Return ASE's band of the images, which asks here for energies and forces."""
        from ase.mep import NEB

        for i, image in enumerate(self._images):
            image.calc = _Answers(self, i)
        return NEB(self._images, k=spring_eV_A2, climb=False, method=method)

    def as_it_is(self, *, converged: bool, ends_rest: bool, n_steps: int, largest_force_eV_A: float) -> ReactionPath:
        """Return the path."""
        self.refresh()
        return ReactionPath(
            images=tuple(self._bare(i) for i in range(len(self._images))),
            energy_eV=self.energy_eV, forces_eV_A=self.forces_eV_A, ends_rest=ends_rest, converged=converged,
            n_steps=n_steps, n_calls=self.n_calls, largest_force_eV_A=largest_force_eV_A,
        )  # fmt: skip

    def _bare(self, number: int) -> Atoms:
        return self._images[number].copy()  # a copy has no calculator


class _Answers:
    """What ASE takes for the calculator of one image: the first that is asked has the whole band evaluated."""

    def __init__(self, band: _Band, number: int) -> None:
        """Speak for one image of a band."""
        self._band, self._number = band, number

    def get_potential_energy(self, _: Atoms) -> float:
        """Return the energy of the image where it is now, eV."""
        self._band.refresh()
        return float(self._band.energy_eV[self._number])

    def get_forces(self, _: Atoms) -> Float:
        """Return the forces on it, eV/Å."""
        self._band.refresh()
        return np.array(self._band.forces_eV_A[self._number])
