"""The compiled loops of the linear ACE: energies, forces and virials, and the rows of the design matrix.

One centre at a time, so that its features and their gradients stay in the cache. Both kernels take derivatives by the
adjoint: first dE/dA (or the sparse dB/dA) of one centre, then its product with the gradients dA/dr of each pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from mlipbench.ace.tables import Folded, Pairs, Products, Wall
from mlipbench.core.model import Float, Int

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Sums may be reordered; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}


def _compiled(function: _Function) -> _Function:
    compiled: _Function = numba.njit(cache=True, fastmath=_FAST, error_model="numpy")(function)
    return compiled


@_compiled
def repulsion(distance: float, charge_1: float, charge_2: float, reach: float) -> tuple[float, float]:
    """Return energy and slope (eV, eV/Å) of the universal screened Coulomb repulsion times (1 - (r / reach)²)³.

    Source: Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids (1985).
    """
    if distance >= reach:
        return 0.0, 0.0
    screening = 0.46850 / (charge_1**0.23 + charge_2**0.23)
    x = distance / screening
    e1, e2 = 0.18175 * np.exp(-3.19980 * x), 0.50986 * np.exp(-0.94229 * x)
    e3, e4 = 0.28022 * np.exp(-0.40290 * x), 0.02817 * np.exp(-0.20162 * x)
    screened = e1 + e2 + e3 + e4
    slope = -(3.19980 * e1 + 0.94229 * e2 + 0.40290 * e3 + 0.20162 * e4) / screening
    coulomb = 14.399645 * charge_1 * charge_2 / distance
    u = 1.0 - (distance / reach) ** 2
    energy = coulomb * screened * u**3
    derivative = coulomb * ((slope - screened / distance) * u**3 - screened * 6.0 * u * u * distance / reach**2)
    return energy, derivative


@_compiled
def _radial(pairs: Pairs, distance: float, values: Float, slopes: Float) -> None:
    """Fill R_n(r) and dR_n/dr: Chebyshev polynomials in the transformed distance, times the envelope."""
    end = np.exp(-pairs.decay)
    t = np.exp(-pairs.decay * distance / pairs.cutoff)
    x = 1.0 - 2.0 * (t - end) / (1.0 - end)
    dx = 2.0 * pairs.decay / pairs.cutoff * t / (1.0 - end)
    u = max(0.0, 1.0 - (distance / pairs.cutoff) ** 2)  # a list with a skin holds pairs beyond the cutoff
    lower = u ** (pairs.envelope - 1)
    f = lower * u
    df = -2.0 * pairs.envelope * lower * distance / pairs.cutoff**2
    now, after = 1.0, x
    dnow, dafter = 0.0, 1.0
    for n in range(len(values)):
        values[n] = now * f
        slopes[n] = dnow * dx * f + now * df
        now, after, dnow, dafter = after, 2.0 * x * after - now, dafter, 2.0 * after + 2.0 * x * dafter - dnow


@_compiled
def _harmonics(pairs: Pairs, vector: Float, powers: Float, values: Float, gradients: Float) -> None:
    """Fill the solid harmonics and their gradients at one vector; `powers` is scratch of shape (3, l_max + 1)."""
    for axis in range(3):
        powers[axis, 0] = 1.0
        for k in range(1, powers.shape[1]):
            powers[axis, k] = powers[axis, k - 1] * vector[axis]
    values[:] = 0.0
    gradients[:] = 0.0
    for k in range(len(pairs.coefficients)):
        p = pairs.powers[k]
        values[p[0]] += pairs.coefficients[k] * powers[0, p[1]] * powers[1, p[2]] * powers[2, p[3]]
    for k in range(len(pairs.gradient_coefficients)):
        g = pairs.gradient[k]
        gradients[g[0], g[1]] += pairs.gradient_coefficients[k] * values[g[2]]


@_compiled
def _features(
    pairs: Pairs,
    vector: Float,
    distance: float,
    radial: Float,
    slopes: Float,
    powers: Float,
    harmonics: Float,
    gradients: Float,
    features: Float,
    derivative: Float,
) -> None:
    """Add one pair's features to A, shape (n_features,), and fill their gradient, shape (3, n_features)."""
    _radial(pairs, distance, radial, slopes)
    _harmonics(pairs, vector, powers, harmonics, gradients)
    o = 0
    power = 1.0
    for angular in range(len(pairs.radial_counts)):
        for n in range(pairs.radial_counts[angular]):
            q = radial[n] / power
            dq = (slopes[n] / power - angular * q / distance) / distance
            for k in range(angular * angular, (angular + 1) * (angular + 1)):
                features[o] += q * harmonics[k]
                w = dq * harmonics[k]
                for axis in range(3):
                    derivative[axis, o] = w * vector[axis] + q * gradients[k, axis]
                o += 1
        power *= distance


@_compiled
def _adjoint(folded: Folded, element: int, a: Float, g: Float) -> float:
    """Return Σ weight · monomial of one centre and add its derivative with respect to the features to `g`."""
    weights = folded.weights[element]
    index = folded.monomials
    energy = 0.0
    for k in range(folded.ends[0]):
        energy += weights[k] * a[index[k, 0]]
        g[index[k, 0]] += weights[k]
    for k in range(folded.ends[0], folded.ends[1]):
        i, j, w = index[k, 0], index[k, 1], weights[k]
        energy += w * a[i] * a[j]
        g[i] += w * a[j]
        g[j] += w * a[i]
    for k in range(folded.ends[1], folded.ends[2]):
        i, j, m = index[k, 0], index[k, 1], index[k, 2]
        first = weights[k] * a[i]
        product = a[j] * a[m]
        energy += first * product
        g[i] += weights[k] * product
        g[j] += first * a[m]
        g[m] += first * a[j]
    return energy


@_compiled
def infer(
    pairs: Pairs,
    folded: Folded,
    wall: Wall,
    e0: Float,
    start: Int,
    index: Int,
    vectors: Float,
    species: Int,
    site_energy: Float,
    forces: Float,
    virial: Float,
) -> None:
    """Fill site energies (n_atoms,), and add to forces (n_atoms, 3) and to dE/dstrain (3, 3); all start at zero."""
    n_features = pairs.n_features
    most = 0
    for i in range(len(species)):
        most = max(most, start[i + 1] - start[i])
    radial, slopes = np.zeros(pairs.radial_counts.max()), np.zeros(pairs.radial_counts.max())
    powers = np.zeros((3, len(pairs.radial_counts)))
    harmonics = np.zeros(len(pairs.radial_counts) ** 2)
    gradients = np.zeros((len(harmonics), 3))
    derivative = np.zeros((most, 3, n_features))
    a, g = np.zeros(len(e0) * n_features + 1), np.zeros(len(e0) * n_features + 1)
    for i in range(len(species)):
        a[:] = 0.0
        g[:] = 0.0
        for p in range(start[i], start[i + 1]):
            vector = vectors[p]
            distance = np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
            first = species[index[p]] * n_features
            part = a[first : first + n_features]
            _features(
                pairs, vector, distance, radial, slopes, powers, harmonics, gradients, part, derivative[p - start[i]]
            )
        site_energy[i] = e0[species[i]] + _adjoint(folded, species[i], a, g)
        for p in range(start[i], start[i + 1]):
            j = index[p]
            vector = vectors[p]
            distance = np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
            energy, slope = repulsion(
                distance, wall.charges[species[i]], wall.charges[species[j]], wall.reach_A[species[i], species[j]]
            )
            site_energy[i] += 0.5 * energy
            first = species[j] * n_features
            for axis in range(3):
                f = 0.5 * slope * vector[axis] / distance
                row = derivative[p - start[i], axis]
                for o in range(n_features):
                    f += g[first + o] * row[o]
                forces[j, axis] -= f
                forces[i, axis] += f
                for other in range(3):
                    virial[axis, other] += f * vector[other]


@_compiled
def design(
    pairs: Pairs,
    products: Products,
    start: Int,
    index: Int,
    vectors: Float,
    species: Int,
    energy: Float,
    forces: Float,
    virial: Float,
) -> None:
    """Add the rows of one frame: what the energy, the forces and dE/dstrain are per unit of each coefficient.

    Columns run over functions within centre elements. `energy` has shape (n_columns,), `forces` (3 n_atoms, n_columns),
    `virial` (6, n_columns) in Voigt order xx, yy, zz, yz, xz, xy; all start at zero.
    """
    n_features, n_functions = pairs.n_features, products.n_functions
    n_elements = len(products.element_start) - 1
    most = 0
    for i in range(len(species)):
        most = max(most, start[i + 1] - start[i])
    radial, slopes = np.zeros(pairs.radial_counts.max()), np.zeros(pairs.radial_counts.max())
    powers = np.zeros((3, len(pairs.radial_counts)))
    harmonics = np.zeros(len(pairs.radial_counts) ** 2)
    gradients = np.zeros((len(harmonics), 3))
    one = np.zeros((3, n_features))
    derivative = np.zeros((n_elements, n_features, 3 * most))
    seen = np.zeros(n_elements, np.int64)
    who = np.zeros((n_elements, most), np.int64)
    a = np.zeros(n_elements * n_features + 1)
    entries = np.zeros(len(products.entry_function) + 1)
    block = np.zeros((n_functions, 3 * most))
    for i in range(len(species)):
        a[:] = 0.0
        a[-1] = 1.0
        seen[:] = 0
        for p in range(start[i], start[i + 1]):
            vector = vectors[p]
            distance = np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
            z = species[index[p]]
            part = a[z * n_features : (z + 1) * n_features]
            _features(pairs, vector, distance, radial, slopes, powers, harmonics, gradients, part, one)
            q = seen[z]
            who[z, q] = p
            seen[z] += 1
            for o in range(n_features):
                for axis in range(3):
                    derivative[z, o, 3 * q + axis] = one[axis, o]
        first = species[i] * n_functions
        _entries(products, a, entries, energy[first : first + n_functions])
        for z in range(n_elements):
            if seen[z]:
                _multiply(products, z, 3 * seen[z], entries, derivative[z], block)
                _scatter(i, who[z, : seen[z]], first, block, index, vectors, forces, virial)


@_compiled
def _entries(products: Products, a: Float, entries: Float, energy: Float) -> None:
    """Add one centre's functions to `energy` and fill the nonzero dB/dA; the last entry takes what is dropped."""
    entries[:] = 0.0
    for k in range(len(products.coefficient)):
        f = products.features[k]
        e = products.entry[k]
        w, x, y, z = products.coefficient[k], a[f[0]], a[f[1]], a[f[2]]
        energy[products.function[k]] += w * x * y * z
        entries[e[0]] += w * y * z
        entries[e[1]] += w * x * z
        entries[e[2]] += w * x * y


@_compiled
def _multiply(products: Products, element: int, width: int, entries: Float, derivative: Float, block: Float) -> None:
    """Fill block[function, pair and axis] = Σ dB/dA · dA/dr for the neighbours of one element."""
    block[:, :width] = 0.0
    for k in range(products.element_start[element], products.element_start[element + 1]):
        row = block[products.entry_function[k]]
        source = derivative[products.entry_feature[k]]
        v = entries[k]
        for q in range(width):
            row[q] += v * source[q]


@_compiled
def _scatter(
    centre: int, pair: Int, first: int, block: Float, index: Int, vectors: Float, forces: Float, virial: Float
) -> None:
    """Add one centre's block to the rows of both atoms of each pair and to the virial rows."""
    for q in range(len(pair)):
        j = index[pair[q]]
        x, y, z = vectors[pair[q], 0], vectors[pair[q], 1], vectors[pair[q], 2]
        for axis in range(3):
            minus, plus = forces[3 * j + axis], forces[3 * centre + axis]
            for b in range(len(block)):
                v = block[b, 3 * q + axis]
                minus[first + b] -= v
                plus[first + b] += v
        for b in range(len(block)):
            fx, fy, fz = block[b, 3 * q], block[b, 3 * q + 1], block[b, 3 * q + 2]
            virial[0, first + b] += fx * x
            virial[1, first + b] += fy * y
            virial[2, first + b] += fz * z
            virial[3, first + b] += fy * z
            virial[4, first + b] += fx * z
            virial[5, first + b] += fx * y
