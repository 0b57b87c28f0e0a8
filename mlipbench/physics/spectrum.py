"""At which frequencies do atoms move?"""

from __future__ import annotations

import numpy as np

from mlipbench.errors import NotApplicable
from mlipbench.physics.cells import Float
from mlipbench.units import INVERSE_CM_PER_INVERSE_FS


def velocity_spectrum(velocities: Float, masses_u: Float, *, interval_fs: float, edges_per_cm: Float) -> Float:
    """Return the power spectrum of mass-weighted velocities in bins of wavenumber, with area 1, shape (n_bins,).

    The lines of the Fourier transform are as wide as they are apart, so that bins which are no multiple of that do not
    hold now one line and now two. For the spectrum of some kind of atoms, give only those.

    Args:
        velocities: shape (n_frames, n_atoms, 3), any unit.
        masses_u: shape (n_atoms,).
        interval_fs: between two frames.
        edges_per_cm: shape (n_bins + 1,), edges of the bins, cm⁻¹.

    Raises:
        NotApplicable: the frames are too far apart for the largest wavenumber, or too few for the narrowest bin, or
            nothing moves.

    Source: P. H. Berens et al., J. Chem. Phys. 79, 2375 (1983); Hann's window against leakage.
    """
    n = len(velocities)
    nyquist = 0.5 / interval_fs * INVERSE_CM_PER_INVERSE_FS
    if nyquist < edges_per_cm[-1]:
        raise NotApplicable(
            f"frames {interval_fs} fs apart show nothing above {nyquist:.0f} cm⁻¹; {edges_per_cm[-1]:.0f} is wanted"
        )
    resolution = INVERSE_CM_PER_INVERSE_FS / (n * interval_fs)
    if resolution > np.diff(edges_per_cm).min():
        raise NotApplicable(
            f"{n} frames {interval_fs} fs apart tell {resolution:.0f} cm⁻¹ apart; bins of "
            f"{np.diff(edges_per_cm).min():.0f} cm⁻¹ need a longer trajectory"
        )
    window = np.hanning(n)[:, None, None]
    power = np.abs(np.fft.rfft(window * velocities, axis=0)) ** 2
    total = np.einsum("i,fia->f", masses_u, power)
    borders = np.maximum(np.arange(len(total) + 1) - 0.5, 0.0) * resolution
    below = np.concatenate([[0.0], np.cumsum(total * np.diff(borders))])
    binned = np.diff(np.interp(edges_per_cm, borders, below))
    if not binned.sum() > 0.0:
        raise NotApplicable("nothing moves at these wavenumbers, so there is no spectrum")
    found: Float = binned / binned.sum() / np.diff(edges_per_cm)
    return found


def spectrum_distance(spectrum: Float, reference: Float, edges_per_cm: Float) -> float:
    """Return how far power must be moved on average to turn one spectrum into the other, over the reference's width.

    Raises:
        NotApplicable: the reference has no width.

    Source: Matbench Molecular Dynamics: Wasserstein's distance over the standard deviation of the reference.

    >>> edges = np.arange(0.0, 5.0)
    >>> spectrum_distance(np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.5, 0.5]), edges)
    4.0
    """
    width, middle = np.diff(edges_per_cm), 0.5 * (edges_per_cm[1:] + edges_per_cm[:-1])
    weight = reference * width
    mean = float(weight @ middle)
    deviation = float(np.sqrt(weight @ (middle - mean) ** 2))
    if not deviation > 0.0:
        raise NotApplicable("all power of the reference is in one bin, whose width is no measure of a distance")
    apart = np.cumsum((spectrum - reference) * width)
    return float((np.abs(apart) * width).sum()) / deviation
