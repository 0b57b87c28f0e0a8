"""A fitted linear ACE: E = Σ_i [E0(z_i) + Σ_b c_b(z_i) B_b(i)] + Σ_{i<j} wall(r_ij)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.kernels import infer
from mlipbench.ace.neighbours import Neighbours, neighbours
from mlipbench.ace.tables import Pairs, Tree, Wall, fold, pair_tables
from mlipbench.core.model import Float, Int
from mlipbench.errors import BadInput, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What a potential says of one frame.

    Attributes:
        energy: eV.
        site_energies: shape (n_atoms,), eV; they sum to the energy.
        forces: shape (n_atoms, 3), eV/Å.
        virial: shape (3, 3), dE/dstrain in eV; the stress times the volume.
        stress: shape (3, 3), eV/Å^3, positive under tension; None for a frame without a periodic cell.
    """

    energy: float
    site_energies: Float
    forces: Float
    virial: Float
    stress: Float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearAce:
    """A linear ACE with its coefficients.

    Attributes:
        basis: the functions.
        e0_eV: shape (n_elements,), what each atom adds before its surroundings do.
        weights: shape (n_elements, n_functions), eV.
        wall_reach_A: shape (n_elements, n_elements), where the repulsion of nuclei ends; 0 for none.

    Raises:
        BadInput: a shape is wrong, a number is not finite, or a wall reaches beyond the cutoff.
    """

    basis: Basis
    e0_eV: Float
    weights: Float
    wall_reach_A: Float
    _pairs: Pairs = field(init=False, repr=False)
    _tree: Tree = field(init=False, repr=False)
    _wall: Wall = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check shapes and numbers, and fold the coefficients once."""
        n = len(self.basis.numbers)
        wanted = {"e0_eV": (n,), "weights": (n, functions(self.basis).n_functions), "wall_reach_A": (n, n)}
        for name, shape in wanted.items():
            given = np.ascontiguousarray(getattr(self, name), dtype=np.float64)
            if given.shape != shape:
                raise BadInput(f"linear ACE: {name} has shape {given.shape}; this basis needs {shape}")
            if not np.isfinite(given).all():
                raise BadInput(f"linear ACE: {name} holds a number that is not finite")
            object.__setattr__(self, name, given)
        reach = self.wall_reach_A
        if (reach < 0).any() or (reach > self.basis.cutoffs_A).any() or (reach != reach.T).any():
            raise BadInput("linear ACE: wall_reach_A must be symmetric, not negative, and within the cutoff")
        object.__setattr__(self, "_pairs", pair_tables(self.basis))
        object.__setattr__(self, "_tree", fold(self.basis, self.weights))
        object.__setattr__(self, "_wall", Wall(np.array(self.basis.numbers, dtype=np.float64), reach))

    def evaluate(self, frame: Atoms, pairs: Neighbours | None = None) -> Evaluation:
        """Return energies, forces and stress of one frame; the frame is not changed.

        Args:
            frame: structure; the stress needs periodicity in all directions.
            pairs: its neighbours within the cutoff (or a little more), when they are known already.

        Raises:
            NotApplicable: it holds an element that the potential does not cover.
            ModelFailure: two atoms lie on top of each other.
            BadInput: positions or cell make no sense.
        """
        species = species_of(frame, self.basis.numbers)
        found = neighbours(frame, self.basis.cutoff_A) if pairs is None else pairs
        site_energies, forces, virial = np.zeros(len(frame)), np.zeros((len(frame), 3)), np.zeros((3, 3))
        infer(
            self._pairs, self._tree, self._wall, self.e0_eV,
            found.start, found.index, found.vector, species, site_energies, forces, virial,
        )  # fmt: skip
        virial = 0.5 * (virial + virial.T)
        return Evaluation(
            energy=float(site_energies.sum()),
            site_energies=site_energies,
            forces=forces,
            virial=virial,
            stress=virial / frame.get_volume() if has_stress(frame) else None,
        )


def has_stress(frame: Atoms) -> bool:
    """Return whether a frame is periodic in all directions, and so has a stress."""
    return bool(frame.pbc.all()) and frame.cell.rank == 3


def species_of(frame: Atoms, numbers: tuple[int, ...]) -> Int:
    """Return each atom's place among the atomic numbers covered, shape (n_atoms,).

    Raises:
        NotApplicable: an element is not covered.
    """
    covered = np.array(numbers, dtype=np.int64)
    place = np.minimum(np.searchsorted(covered, frame.numbers), len(covered) - 1)
    strange = covered[place] != frame.numbers
    if strange.any():
        from ase.data import chemical_symbols

        names = ", ".join(chemical_symbols[number] for number in sorted(set(frame.numbers[strange].tolist())))
        known = ", ".join(chemical_symbols[number] for number in numbers)
        raise NotApplicable(f"the ACE does not cover {names}; it covers {known}")
    species: Int = place.astype(np.int64)
    return species
