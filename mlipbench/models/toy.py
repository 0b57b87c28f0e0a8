"""Calculators with a known answer, and calculators that misbehave on purpose.

Each is a class without required arguments, so that `mlipbench.models.toy:Springs` names a model.
"""

# The classes must exist for their names to be looked up, so ASE is imported here; nothing else imports this module.
from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from mlipbench.core.model import Float, Int


class Springs(Calculator):  # type: ignore[misc]
    """A well-behaved toy: springs between all atoms nearer than a cutoff, faded out smoothly.

    Each pair at distance r adds k/2 · (r - r0)² · (1 - r²/rc²)³, whose first and second derivatives vanish at rc.
    Forces and stress are exact.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(
        self, *, stiffness_eV_per_A2: float = 1.0, length_A: float = 1.5, cutoff_A: float = 4.0, **keywords: Any
    ) -> None:
        """Set the springs' stiffness k, length r0 and cutoff rc."""
        super().__init__(**keywords)
        self.stiffness_eV_per_A2 = stiffness_eV_per_A2
        self.length_A = length_A
        self.cutoff_A = cutoff_A

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results` for these atoms, as ASE wants it."""
        from ase.neighborlist import neighbor_list

        super().calculate(atoms, properties, system_changes)
        first, second, vector, distance = neighbor_list("ijDd", self.atoms, self.cutoff_A)
        energy, slope = self.pair(distance)
        weight = self.weight(first, second)
        energies, pull = 0.5 * energy * weight, (slope * weight / distance)[:, None] * vector
        n = len(self.atoms)
        self.results["energies"] = np.bincount(first, energies, minlength=n).astype(np.float64)
        self.results["energy"] = self.results["free_energy"] = float(energies.sum())
        # Every pair is listed in both directions, so the pulls on the first atoms are the whole force.
        # Without any pair, bincount counts in integers.
        parts = [np.bincount(first, pull[:, k], minlength=n).astype(np.float64) for k in range(3)]
        self.results["forces"] = np.column_stack(parts)
        if self.atoms.cell.rank == 3:
            virial = 0.5 * vector.T @ pull / self.atoms.get_volume()
            self.results["stress"] = virial.flat[[0, 4, 8, 5, 2, 1]]

    def pair(self, distance: Float) -> tuple[Float, Float]:
        """Return energy (eV) and slope (eV/Å) of pairs at these distances (Å), shape (n_pairs,).

        At its own length a spring has no energy and no slope:

        >>> [float(x) for x in Springs(length_A=1.5).pair(np.array(1.5))]
        [0.0, 0.0]
        """
        stretch = distance - self.length_A
        inside = 1.0 - (distance / self.cutoff_A) ** 2
        half_k = 0.5 * self.stiffness_eV_per_A2
        energy = half_k * stretch**2 * inside**3
        slope = half_k * (2 * stretch * inside**3 - 6 * stretch**2 * inside**2 * distance / self.cutoff_A**2)
        return np.asarray(energy, dtype=np.float64), np.asarray(slope, dtype=np.float64)

    def weight(self, first: Int, second: Int) -> Float:
        """Return a factor for each pair of atom numbers, shape (n_pairs,); the same for all atoms."""
        return np.ones(len(first))


class NotPermutationInvariant(Springs):
    """Springs that get stiffer with the atoms' place in the list."""

    def weight(self, first: Int, second: Int) -> Float:
        """Return a factor that grows with both atom numbers."""
        return np.asarray(1.0 + 0.01 * (first + second), dtype=np.float64)


class NotDeterministic(Springs):
    """Springs with 1 meV and 1 meV/Å of noise that no seed controls."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        """Add noise to the right answer."""
        super().calculate(*arguments, **keywords)
        rng = np.random.default_rng()
        self.results["energy"] += 1e-3 * rng.normal()
        self.results["forces"] = self.results["forces"] + 1e-3 * rng.normal(size=self.results["forces"].shape)


class CopperOnly(Springs):
    """Springs that know copper and no other element."""

    def calculate(self, atoms: Atoms | None = None, *arguments: Any, **keywords: Any) -> None:
        """Refuse whatever is not copper.

        Raises:
            KeyError: there is another element.
        """
        for symbol in (atoms or self.atoms).symbols:
            {"Cu": 29}[symbol]
        super().calculate(atoms, *arguments, **keywords)


class AlwaysRaises(Springs):
    """Raises, whatever it is asked."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        """Raise.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("this toy always raises")


class ReturnsNaN(Springs):
    """Answers with a force that is not a number, on its first atom."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        """Spoil the right answer."""
        super().calculate(*arguments, **keywords)
        self.results["forces"][0] = np.nan


class WrongShape(Springs):
    """Forgets the third component of every force."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        """Cut the right answer short."""
        super().calculate(*arguments, **keywords)
        self.results["forces"] = self.results["forces"][:, :2]


class MutatesAtoms(Springs):
    """Moves the atoms it is given by 0.001 Å, and answers for where they were."""

    def calculate(self, atoms: Atoms | None = None, *arguments: Any, **keywords: Any) -> None:
        """Give the right answer, then move the caller's atoms."""
        super().calculate(atoms, *arguments, **keywords)
        if atoms is not None:
            atoms.positions += 1e-3


class Hangs(Springs):
    """Thinks for a long time before it answers.

    Args:
        seconds: how long.
    """

    def __init__(self, *, seconds: float = 3600.0, **keywords: Any) -> None:
        """Set how long it takes."""
        super().__init__(**keywords)
        self.seconds = seconds

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        """Sleep, then answer."""
        time.sleep(self.seconds)
        super().calculate(*arguments, **keywords)


class Crashes(Springs):
    """Takes its whole process down, as faulty compiled code does."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        """End the process with a segmentation fault."""
        os.kill(os.getpid(), signal.SIGSEGV)
