"""How fast do molecules wander?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.cells import Float, Int
from mlipbench.units import BOLTZMANN_EV_PER_K, PASCAL_PER_EV_PER_CUBIC_ANGSTROM

YEH_HUMMER: Final = 2.837297479  # of a cubic cell
FIT_FROM, FIT_TO = 0.1, 0.5  # shares of the trajectory: later, few origins are left
ROUNDING: Final = 1e-9
SQUARE_CM_PER_S_PER_SQUARE_ANGSTROM_PER_PS: Final = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Diffusion:
    """A diffusion coefficient and how good the straight line was.

    Attributes:
        value_cm2_s: slope of the mean square displacement over six.
        exponent: slope in double logarithms over the same times; 1 where motion is diffusive.
    """

    value_cm2_s: float
    exponent: float

    @property
    def value_A2_ps(self) -> float:
        """The same in Å²/ps."""
        return self.value_cm2_s / SQUARE_CM_PER_S_PER_SQUARE_ANGSTROM_PER_PS


def centres(positions: Float, masses_u: Float, molecule: Int) -> Float:
    """Return the centres of mass of molecules, shape (n_frames, n_molecules, 3), less that of everything.

    Args:
        positions: shape (n_frames, n_atoms, 3), Å, never wrapped.
        masses_u: shape (n_atoms,).
        molecule: shape (n_atoms,), from 0 without gaps.
    """
    n = int(molecule.max()) + 1
    weight = np.zeros((n, len(molecule)))
    weight[molecule, np.arange(len(molecule))] = masses_u
    whole = weight.sum(axis=1)
    found: Float = np.einsum("mi,fia->fma", weight / whole[:, None], positions)
    found -= np.einsum("m,fma->fa", whole / whole.sum(), found)[:, None]
    return found


def mean_square_displacement(where: Float) -> Float:
    """Return the mean square displacement at every lag, Å², averaged over origins and molecules, shape (n_frames,).

    Args:
        where: shape (n_frames, n_molecules, 3), Å.

    Source: G. R. Kneller et al., Comput. Phys. Commun. 91, 191 (1995), for the way through Fourier transforms.

    >>> mean_square_displacement(np.arange(4.0).reshape(4, 1, 1) * np.array([1.0, 0.0, 0.0])).round(9).tolist()
    [0.0, 1.0, 4.0, 9.0]
    """
    n = len(where)
    where = where - where.mean(axis=0)  # squares of places far from the origin would drown their small differences
    size = 2 ** int(np.ceil(np.log2(2 * n)))
    spectrum = np.fft.rfft(where, size, axis=0)
    products = np.fft.irfft(spectrum * np.conj(spectrum), size, axis=0)[:n].sum(axis=2)
    squares = np.concatenate([(where**2).sum(axis=2), np.zeros((1, where.shape[1]))])
    total = 2.0 * squares.sum(axis=0)
    sums = np.empty((n, where.shape[1]))
    for lag in range(n):
        total = total - squares[lag - 1] - squares[n - lag]
        sums[lag] = total
    per_molecule = (sums - 2.0 * products) / np.arange(n, 0, -1)[:, None]
    found: Float = np.maximum(per_molecule.mean(axis=1), 0.0)
    return found


def diffusion(displacement_A2: Float, times_ps: Float, *, length_ps: float | None = None) -> Diffusion:
    """Return the diffusion coefficient from the slope between a tenth and a half of a length.

    Two runs of different lengths are compared over the same lags: molecules rattle in cages before they wander, so that
    the slope depends on when it is taken.

    Args:
        displacement_A2: shape (n,), mean square displacement.
        times_ps: shape (n,), lags from 0.
        length_ps: that the window is taken of; None takes the last lag.

    Raises:
        NotApplicable: fewer than three points are left to fit.
    """
    length = float(times_ps[-1]) if length_ps is None else length_ps
    first, last = FIT_FROM * length * (1.0 - ROUNDING), FIT_TO * length * (1.0 + ROUNDING)
    chosen = (times_ps >= first) & (times_ps <= last) & (times_ps > 0.0)
    if chosen.sum() < 3:
        raise NotApplicable(
            f"a diffusion coefficient needs more than {chosen.sum()} lags between {first:.3g} and {last:.3g} ps"
        )
    slope = float(np.polynomial.Polynomial.fit(times_ps[chosen], displacement_A2[chosen], 1).convert().coef[1])
    logs = np.log(np.maximum(displacement_A2[chosen], 1e-300))
    exponent = float(np.polynomial.Polynomial.fit(np.log(times_ps[chosen]), logs, 1).convert().coef[1])
    return Diffusion(value_cm2_s=slope / 6.0 * SQUARE_CM_PER_S_PER_SQUARE_ANGSTROM_PER_PS, exponent=exponent)


def displacement_of_kinds(where: Float, kind: Int) -> Float:
    """Return the mean square displacement of all molecules, and of each kind, shape (1 + n_kinds, n_frames).

    Args:
        where: shape (n_frames, n_molecules, 3), Å.
        kind: shape (n_molecules,), from 0 without gaps; of a single kind the second row equals the first.
    """
    rows = [mean_square_displacement(where[:, kind == k]) for k in range(int(kind.max()) + 1)]
    shares = np.bincount(kind) / len(kind)
    return np.array([shares @ np.array(rows), *rows])


def diffusion_stderr_cm2_s(where: Float, times_ps: Float, *, n_blocks: int) -> float:
    """Return the standard error of a diffusion coefficient, from the spread between blocks of molecules.

    For a single trajectory; it misses what all molecules of one box have in common, such as its density, which only
    several trajectories show.

    Args:
        where: shape (n_frames, n_molecules, 3), Å.
        times_ps: shape (n_frames,), lags from 0.
        n_blocks: two or more; molecules are dealt out in turn, so that blocks are alike when kinds come in a row.

    Raises:
        BadInput: there are fewer than two blocks, or fewer molecules than blocks.
    """
    if not 2 <= n_blocks <= where.shape[1]:
        raise BadInput(
            f"{n_blocks} blocks of {where.shape[1]} molecules: at least 2 are needed, of one molecule or more"
        )
    values = [
        diffusion(mean_square_displacement(where[:, block::n_blocks]), times_ps).value_cm2_s
        for block in range(n_blocks)
    ]
    return float(np.std(values, ddof=1) / np.sqrt(n_blocks))


def finite_size_correction_cm2_s(*, temperature_K: float, edge_A: float, viscosity_mPa_s: float) -> float:
    """Return what is to be added to a diffusion coefficient of a cubic periodic box: 2.837 kT/6πηL.

    Source: I.-C. Yeh & G. Hummer, J. Phys. Chem. B 108, 15873 (2004).

    Water at 298 K (0.9 mPa s) in a box of 20 Å misses about 3e-6 cm²/s:

    >>> f"{finite_size_correction_cm2_s(temperature_K=298.0, edge_A=20.0, viscosity_mPa_s=0.9):.2e}"
    '3.44e-06'
    """
    viscosity = 1e-3 * viscosity_mPa_s / 1e-15 / PASCAL_PER_EV_PER_CUBIC_ANGSTROM  # eV fs/Å^3
    per_fs = YEH_HUMMER * BOLTZMANN_EV_PER_K * temperature_K / (6.0 * np.pi * viscosity * edge_A)  # Å²/fs
    return float(per_fs * 1e3 * SQUARE_CM_PER_S_PER_SQUARE_ANGSTROM_PER_PS)
