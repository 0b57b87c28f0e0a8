"""How sure is a fit of its coefficients, and so of what it predicts?

The coefficients of a Bayesian ridge regression are normal, c ~ N(mean, σ² (UᵀU)⁻¹), and every prediction is a row times
c: its standard deviation is σ |U⁻ᵀ row|. E0s and the repulsion of nuclei are taken as exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from scipy.linalg.blas import dtrsm, dtrsv

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.neighbours import Neighbours, neighbours
from mlipbench.ace.potential import LinearAce, has_stress
from mlipbench.ace.rows import Weights, bare_rows, room_for
from mlipbench.core.model import Float
from mlipbench.errors import BadInput, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

MAX_MEMBERS: Final = 4096
_CHUNK_ROWS: Final = 1024
_VOIGT: Final = ((0, 5, 4), (5, 1, 3), (4, 3, 2))  # place of each component in xx, yy, zz, yz, xz, xy


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What a fit left unexplained: one standard deviation of labels around the right coefficients.

    The square of a prediction's standard deviation plus the square of this is the variance of a new label.

    Attributes:
        sigma: noise of a weighted row.
        weights: of the rows; see `Weights` for the units of a row.

    Raises:
        BadInput: a number is negative or not finite.
    """

    sigma: float
    weights: Weights

    def __post_init__(self) -> None:
        """Refuse numbers without meaning."""
        for name, given in (
            ("sigma", self.sigma),
            ("energy weight", self.weights.energy),
            ("forces weight", self.weights.forces),
            ("stress weight", self.weights.stress),
        ):
            if not 0.0 <= given < np.inf:
                raise BadInput(f"ACE noise: the {name} is {given}; it must be a finite number from 0")

    def energy_eV(self, n_atoms: int) -> float:
        """Return the noise of the total energy of a frame of `n_atoms` atoms, eV: σ √N / w_E.

        Raises:
            NotApplicable: energies had no weight in the fit.

        >>> Noise(sigma=0.02, weights=Weights(energy=10.0)).energy_eV(100)
        0.02
        """
        return self._row("energies", self.weights.energy) * sqrt(n_atoms)

    def forces_eV_per_A(self) -> float:
        """Return the noise of a force component, eV/Å: σ / w_F.

        Raises:
            NotApplicable: forces had no weight in the fit.
        """
        return self._row("forces", self.weights.forces)

    def stress_eV_per_A3(self, n_atoms: int, volume_A3: float) -> float:
        """Return the noise of a stress component of a frame of `n_atoms` atoms, eV/Å^3: σ √N / (w_S V).

        Raises:
            NotApplicable: stresses had no weight in the fit.
        """
        return self._row("stresses", self.weights.stress) * sqrt(n_atoms) / volume_A3

    def _row(self, kind: str, weight: float) -> float:
        if not weight:
            raise NotApplicable(f"the ACE was fitted with no weight on {kind}, so it does not know their noise")
        return self.sigma / weight


class Rows(NamedTuple):
    """What the energy, the forces and dE/dstrain of a frame are per unit of each coefficient.

    Attributes:
        stacked: shape (1 + 3 n_atoms + 6, n_columns), all of them.
    """

    stacked: Float

    @property
    def energy(self) -> Float:
        """Shape (1, n_columns)."""
        return self.stacked[:1]

    @property
    def forces(self) -> Float:
        """Shape (3 n_atoms, n_columns), 1/Å; x, y and z of one atom after another."""
        return self.stacked[1:-6]

    @property
    def virial(self) -> Float:
        """Shape (6, n_columns), in Voigt order xx, yy, zz, yz, xz, xy."""
        return self.stacked[-6:]


def design_rows(basis: Basis, frame: Atoms, pairs: Neighbours | None = None) -> Rows:
    """Return the rows of one frame without weights; its memory is that of 3 n_atoms + 7 rows.

    Args:
        basis: the functions.
        frame: structure.
        pairs: its neighbours within the cutoff (or a little more), when they are known already.

    Raises:
        NotApplicable, ModelFailure, BadInput: as `LinearAce.evaluate`.
    """
    found = neighbours(frame, basis.cutoff_A) if pairs is None else pairs
    room = room_for(frame, np.empty((0, len(basis.numbers) * functions(basis).n_functions)))
    return Rows(bare_rows(basis, frame, found, room))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameSpread:
    """One standard deviation of a frame's prediction over what the coefficients may be, without noise.

    Attributes:
        energy_std: of the total energy, eV.
        forces_std: shape (n_atoms, 3), of each component, eV/Å.
        stress_std: shape (3, 3), of each component, eV/Å^3; None where there is no stress.
    """

    energy_std: float
    forces_std: Float
    stress_std: Float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """A potential whose coefficients are known up to a normal distribution, c ~ N(mean, σ² (UᵀU)⁻¹).

    Attributes:
        potential: with the mean coefficients; columns run over functions within centre elements.
        factor: the upper triangle U, shape (n_columns, n_columns); what is below its diagonal is not read.
        noise: of the labels; its sigma is σ.

    Raises:
        BadInput: the factor has another shape, is singular, or holds a number that is not finite.

    Source: MacKay, Neural Comput. 4, 415 (1992).
    """

    potential: LinearAce
    factor: Float
    noise: Noise

    def __post_init__(self) -> None:
        """Check the factor, and keep it as BLAS reads it."""
        object.__setattr__(self, "factor", _factor(self.factor, self.potential.weights.size))

    def std(self, rows: Float) -> Float:
        """Return the standard deviation of rows · c: shape (n_rows,), in the unit of the rows times eV.

        Args:
            rows: shape (n_rows, n_columns).
        """
        if rows.ndim != 2 or rows.shape[1] != len(self.factor):
            raise BadInput(f"ACE posterior: rows have shape {rows.shape}; {len(self.factor)} columns are needed")
        found = np.zeros(len(rows))
        for first in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[first : first + _CHUNK_ROWS]
            found[first : first + len(chunk)] = np.linalg.norm(dtrsm(1.0, self.factor, chunk.T, trans_a=1), axis=0)
        return self.noise.sigma * found

    def draw(self, n_members: int, *, seed: int) -> Float:
        """Return coefficients drawn from the posterior: shape (n_members, n_elements, n_functions), eV.

        The same seed gives the same members, and the first ones do not depend on how many follow.

        Raises:
            BadInput: there are none or too many.
        """
        if not 1 <= n_members <= MAX_MEMBERS:
            raise BadInput(f"ACE posterior: {n_members} members; from 1 to {MAX_MEMBERS} are possible")
        rng = np.random.default_rng(seed)
        mean = self.potential.weights
        # One solve a member: BLAS rounds a block of right-hand sides differently for each width.
        steps = np.array([dtrsv(self.factor, rng.standard_normal(mean.size)) for _ in range(n_members)])
        drawn: Float = mean + self.noise.sigma * steps.reshape(n_members, *mean.shape)
        return drawn

    def spread(self, frame: Atoms, pairs: Neighbours | None = None) -> FrameSpread:
        """Return the standard deviations of one frame's energy, forces and stress.

        Args:
            frame: structure.
            pairs: its neighbours within the cutoff (or a little more), when they are known already.

        Raises:
            NotApplicable, ModelFailure, BadInput: as `LinearAce.evaluate`.
        """
        found = self.std(design_rows(self.potential.basis, frame, pairs).stacked)
        return FrameSpread(
            energy_std=float(found[0]),
            forces_std=found[1:-6].reshape(-1, 3),
            stress_std=found[-6:][np.array(_VOIGT)] / frame.get_volume() if has_stress(frame) else None,
        )


def _factor(given: Float, n_columns: int) -> Float:
    """Return the factor of a posterior as BLAS reads it."""
    factor = np.asfortranarray(given, dtype=np.float64)
    if factor.shape != (n_columns, n_columns):
        raise BadInput(f"ACE posterior: the factor has shape {factor.shape}; this basis needs {(n_columns, n_columns)}")
    if not np.isfinite(factor).all():
        raise BadInput("ACE posterior: the factor holds a number that is not finite")
    if not factor.diagonal().all():
        raise BadInput("ACE posterior: the factor is singular: its diagonal holds a zero")
    return factor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uncertainty:
    """What travels with a potential so that it can say how sure it is.

    Attributes:
        members: shape (n_members, n_elements, n_functions), coefficients drawn from the posterior, eV.
        noise: of the labels.
        factor: of the posterior, shape (n_columns, n_columns); see `Posterior`. None where only members are kept.

    Raises:
        BadInput: members or factor have a wrong shape or hold a number that is not finite, or the factor is singular.
    """

    members: Float
    noise: Noise
    factor: Float | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the potential, and keep the factor as BLAS reads it."""
        shape = self.members.shape
        if len(shape) != 3 or not all(shape) or shape[0] > MAX_MEMBERS:
            raise BadInput(
                f"ACE uncertainty: members have shape {shape}; (n_members, n_elements, n_functions) is needed, "
                f"with 1 to {MAX_MEMBERS} members"
            )
        if not np.isfinite(self.members).all():
            raise BadInput("ACE uncertainty: the members hold a number that is not finite")
        if self.factor is not None:
            object.__setattr__(self, "factor", _factor(self.factor, shape[1] * shape[2]))
