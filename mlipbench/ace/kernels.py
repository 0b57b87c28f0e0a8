"""The compiled loops of the linear ACE: energies, forces and virials, and the rows of the design matrix.

One centre at a time, so that its features stay in the cache, with the neighbours sorted by element and stored beside
each other, so that the processor takes several at once. Derivatives come by the adjoint: first dE/dA (or the sparse
dB/dA) of one centre, then its product with what each pair adds to A.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numba
import numpy as np

from mlipbench.ace.tables import TILE, Pairs, Products, Tree, Wall
from mlipbench.core.model import Float, Int

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Sums may be reordered; NaN and infinity keep their meaning.
_FAST: Final = {"reassoc", "contract", "arcp", "nsz"}


# Machine code is kept for the next process under a name with this: numba itself looks for changes only in the file of
# the function, not in those that it calls, and stumbles over names that are gone.
_SOURCES: Final = sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def compiled(function: _Function) -> _Function:
    """Compile a loop over atoms at its first call, and keep the machine code."""
    function.__qualname__ = f"{function.__qualname__}_{_SOURCES[:12]}"
    made: _Function = numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")(function)
    return made


class Shell(NamedTuple):
    """The neighbours of one centre, sorted by element, and what their features are made of.

    Attributes:
        who: shape (most,), number of the neighbour.
        pair: shape (most,), which pair of the list it is.
        first: shape (n_elements + 1,), first neighbour of each element; the last is the number of neighbours.
        unit: shape (3, most), direction.
        distance: shape (most,), Å.
        radial, slope: shape (n_radial, most), R_n and dR_n/dr.
        harmonics: shape (n_harmonics, most), Y_lm.
        powers: shape (3, l_max + 1, most), scratch.
        element: shape (most,), of the neighbour.
        scratch: shape (4, most), transformed distance, its slope, 1 - (r / cutoff)², and its slope.
    """

    who: Int
    pair: Int
    first: Int
    unit: Float
    distance: Float
    radial: Float
    slope: Float
    harmonics: Float
    powers: Float
    element: Int
    scratch: Float


@compiled
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


@compiled
def pair_vectors(positions: Float, cell: Float, start: Int, index: Int, shift: Float, vectors: Float) -> None:
    """Fill the vector of each pair, shape (n_pairs, 3), from positions and lattice vectors added to the neighbour."""
    for i in range(len(start) - 1):
        for p in range(start[i], start[i + 1]):
            for axis in range(3):
                vectors[p, axis] = (
                    positions[index[p], axis]
                    - positions[i, axis]
                    + (shift[p, 0] * cell[0, axis] + shift[p, 1] * cell[1, axis] + shift[p, 2] * cell[2, axis])
                )


@compiled
def search_pairs(
    positions: Float,
    fractional: Float,
    cell: Float,
    reach: Float,
    cutoff: float,
    start: Int,
    index: Int,
    shift: Float,
) -> None:
    """Count the neighbours of atom i in start[i + 1], or fill them where `index` has room, at start[i] and on.

    Args:
        positions: shape (n_atoms, 3), inside the cell along periodic directions.
        fractional: shape (n_atoms, 3), in [0, 1); zero along directions that are not periodic.
        cell: shape (3, 3), lattice vectors; zero where not periodic.
        reach: shape (3,), cutoff over the distance of lattice planes; zero where not periodic.
        cutoff: Å.
        start: shape (n_atoms + 1,).
        index: shape (n_pairs,), or empty to count.
        shift: shape (n_pairs, 3), lattice vectors added to the neighbour.
    """
    square = cutoff * cutoff
    for i in range(len(positions)):
        found = 0
        for j in range(len(positions)):
            x, y, z = (
                positions[j, 0] - positions[i, 0],
                positions[j, 1] - positions[i, 1],
                positions[j, 2] - positions[i, 2],
            )
            u, v, w = (
                fractional[j, 0] - fractional[i, 0],
                fractional[j, 1] - fractional[i, 1],
                fractional[j, 2] - fractional[i, 2],
            )
            for a in range(int(np.ceil(-reach[0] - u)), int(np.floor(reach[0] - u)) + 1):
                for b in range(int(np.ceil(-reach[1] - v)), int(np.floor(reach[1] - v)) + 1):
                    for c in range(int(np.ceil(-reach[2] - w)), int(np.floor(reach[2] - w)) + 1):
                        dx = x + a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
                        dy = y + a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
                        dz = z + a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
                        if dx * dx + dy * dy + dz * dz < square and not (i == j and a == 0 and b == 0 and c == 0):
                            if len(index):
                                p = start[i] + found
                                index[p] = j
                                shift[p, 0], shift[p, 1], shift[p, 2] = a, b, c
                            found += 1
        if not len(index):
            start[i + 1] = found


@compiled
def room(pairs: Pairs, start: Int) -> Shell:
    """Return arrays for the largest number of neighbours."""
    most = 1
    for i in range(len(start) - 1):
        most = max(most, start[i + 1] - start[i])
    n_harmonics = len(pairs.angular)
    n_radial = pairs.radial_counts.sum()
    return Shell(
        np.zeros(most, np.int64),
        np.zeros(most, np.int64),
        np.zeros(len(pairs.cutoffs) + 1, np.int64),
        np.zeros((3, most)),
        np.zeros(most),
        np.zeros((n_radial, most)),
        np.zeros((n_radial, most)),
        np.zeros((n_harmonics, most)),
        np.zeros((3, pairs.angular[-1] + 1, most)),
        np.zeros(most, np.int64),
        np.zeros((4, most)),
    )


@compiled
def gather(pairs: Pairs, shell: Shell, centre: int, start: Int, index: Int, vectors: Float, species: Int) -> int:
    """Fill the shell of one centre and return its number of neighbours; pairs beyond their cutoff are left out."""
    own = pairs.cutoffs[species[centre]]
    first, begin = shell.first, start[centre]
    first[:] = 0
    for p in range(begin, start[centre + 1]):
        z = species[index[p]]
        square = vectors[p, 0] * vectors[p, 0] + vectors[p, 1] * vectors[p, 1] + vectors[p, 2] * vectors[p, 2]
        near = square < own[z] * own[z]
        shell.element[p - begin] = z if near else -1
        first[z + 1] += near
    for z in range(len(own)):
        first[z + 1] += first[z]
    for p in range(begin, start[centre + 1]):
        z = shell.element[p - begin]
        if z >= 0:
            q = first[z]
            first[z] += 1
            shell.who[q] = index[p]
            shell.pair[q] = p
            for axis in range(3):
                shell.unit[axis, q] = vectors[p, axis]
    for z in range(len(own), 0, -1):  # each start has moved to the next one's place
        first[z] = first[z - 1]
    first[0] = 0
    n: int = first[len(own)]
    x, y, z, distance = shell.unit[0], shell.unit[1], shell.unit[2], shell.distance
    for q in range(n):
        distance[q] = np.sqrt(x[q] * x[q] + y[q] * y[q] + z[q] * z[q])
        inverse = 1.0 / distance[q]
        x[q] *= inverse
        y[q] *= inverse
        z[q] *= inverse
    for z in range(len(own)):
        _transform(pairs, own[z], shell, first[z], first[z + 1])
    _radial(pairs, shell, n)
    _harmonics(pairs, shell, n)
    return n


@compiled
def _transform(pairs: Pairs, cutoff: float, shell: Shell, begin: int, end: int) -> None:
    """Fill the transformed distance and what the envelope is a power of, and their slopes."""
    last, rate, inverse = np.exp(-pairs.decay), pairs.decay / cutoff, 1.0 / (cutoff * cutoff)
    scale = 2.0 / (1.0 - last)
    x, dx, u, du = shell.scratch[0], shell.scratch[1], shell.scratch[2], shell.scratch[3]
    for q in range(begin, end):
        x[q] = np.exp(-rate * shell.distance[q])
    for q in range(begin, end):
        dx[q] = rate * scale * x[q]
        x[q] = 1.0 - scale * (x[q] - last)
        u[q] = 1.0 - shell.distance[q] * shell.distance[q] * inverse
        du[q] = -2.0 * shell.distance[q] * inverse


@compiled
def _radial(pairs: Pairs, shell: Shell, n: int) -> None:
    """Fill R_n(r) and dR_n/dr: Chebyshev polynomials in the transformed distance, times the envelope of each kind."""
    x, dx, u, du = shell.scratch[0], shell.scratch[1], shell.scratch[2], shell.scratch[3]
    first = 0
    for kind in range(2):
        count, power = pairs.radial_counts[kind], pairs.envelopes[kind]
        f, df = shell.radial[first : first + count], shell.slope[first : first + count]
        first += count
        if count > 0:
            f[0, :n] = 1.0
            for _ in range(power - 1):
                for q in range(n):
                    f[0, q] *= u[q]
            for q in range(n):
                df[0, q] = power * f[0, q] * du[q]
                f[0, q] *= u[q]
        if count > 1:
            for q in range(n):
                f[1, q] = x[q] * f[0, q]
                df[1, q] = dx[q] * f[0, q] + x[q] * df[0, q]
        for k in range(2, count):
            for q in range(n):
                f[k, q] = 2.0 * x[q] * f[k - 1, q] - f[k - 2, q]
                df[k, q] = 2.0 * (dx[q] * f[k - 1, q] + x[q] * df[k - 1, q]) - df[k - 2, q]


@compiled
def _harmonics(pairs: Pairs, shell: Shell, n: int) -> None:
    """Fill the harmonics of the first n directions."""
    powers, values = shell.powers, shell.harmonics
    for axis in range(3):
        for q in range(n):
            powers[axis, 0, q] = 1.0
        for k in range(1, powers.shape[1]):
            for q in range(n):
                powers[axis, k, q] = powers[axis, k - 1, q] * shell.unit[axis, q]
    values[:, :n] = 0.0
    for k in range(len(pairs.coefficients)):
        p, c = pairs.powers[k], pairs.coefficients[k]
        row, x, y, z = values[p[0]], powers[0, p[1]], powers[1, p[2]], powers[2, p[3]]
        for q in range(n):
            row[q] += c * x[q] * y[q] * z[q]


@compiled
def sum_features(pairs: Pairs, shell: Shell, a: Float) -> None:
    """Fill A of one centre, shape (n_elements · n_features + 1,), in the order of the loops; the last is 1."""
    a[:] = 0.0
    a[-1] = 1.0
    for z in range(len(pairs.cutoffs)):
        begin, end = shell.first[z], shell.first[z + 1]
        if begin == end:
            continue
        o = z * pairs.n_features
        for k, row, count in pairs.blocks:
            y = shell.harmonics[k, begin:end]
            for n in range(row, row + count):
                f = shell.radial[n, begin:end]
                total = 0.0
                for q in range(end - begin):
                    total += f[q] * y[q]
                a[o] = total
                o += 1


@compiled
def _polynomial(tree: Tree, element: int, a: Float, g: Float) -> float:
    """Return Σ weight · monomial of one centre and fill its derivative with respect to A in `g`."""
    g[:] = 0.0
    w1, w2, w3, w4 = tree.weight_1[element], tree.weight_2[element], tree.weight_3[element], tree.weight_4[element]
    energy = 0.0
    for one in range(len(tree.feature_1)):
        i = tree.feature_1[one]
        t1 = w1[one]
        for two in range(tree.start_2[one], tree.start_2[one + 1]):
            j = tree.feature_2[two]
            product = a[i] * a[j]
            t2 = w2[two]
            if tree.depth < 4:
                for three in range(tree.start_3[two], tree.start_3[two + 1]):
                    k = tree.feature_3[three]
                    t2 += w3[three] * a[k]
                    g[k] += w3[three] * product
            else:
                for three in range(tree.start_3[two], tree.start_3[two + 1]):
                    k = tree.feature_3[three]
                    triple = product * a[k]
                    t3 = w3[three]
                    for four in range(tree.start_4[three], tree.start_4[three + 1]):
                        m = tree.feature_4[four]
                        t3 += w4[four] * a[m]
                        g[m] += w4[four] * triple
                    t2 += t3 * a[k]
                    g[k] += t3 * product
            t1 += t2 * a[j]
            g[j] += t2 * a[i]
        energy += t1 * a[i]
        g[i] += t1
    return energy


@compiled
def site_functions(
    pairs: Pairs, products: Products, start: Int, index: Int, vectors: Float, species: Int, values: Float
) -> None:
    """Add the functions of each atom to `values`, shape (n_atoms, n_functions)."""
    shell = room(pairs, start)
    a = np.zeros(len(pairs.cutoffs) * pairs.n_features + 1)
    for i in range(len(species)):
        gather(pairs, shell, i, start, index, vectors, species)
        sum_features(pairs, shell, a)
        for k in range(len(products.coefficient)):
            f = products.features[k]
            values[i, products.function[k]] += products.coefficient[k] * a[f[0]] * a[f[1]] * a[f[2]] * a[f[3]]


@compiled
def _unsum(pairs: Pairs, shell: Shell, g: Float, along: Float, across: Float) -> None:
    """Fill dE/dr at fixed direction, shape (most,), and dE/dY, shape (n_harmonics, most), from dE/dA."""
    along[: shell.first[-1]] = 0.0
    across[:, : shell.first[-1]] = 0.0
    for z in range(len(pairs.cutoffs)):
        begin, end = shell.first[z], shell.first[z + 1]
        if begin == end:
            continue
        o = z * pairs.n_features
        d, total = along[begin:end], shell.scratch[0, begin:end]
        for k, row, count in pairs.blocks:
            y, h = shell.harmonics[k, begin:end], across[k, begin:end]
            total[:] = 0.0
            for n in range(row, row + count):
                v = g[o]
                f, df = shell.radial[n, begin:end], shell.slope[n, begin:end]
                for q in range(end - begin):
                    h[q] += v * f[q]
                    total[q] += v * df[q]
                o += 1
            for q in range(end - begin):
                d[q] += total[q] * y[q]


@compiled
def _pull(pairs: Pairs, shell: Shell, along: Float, across: Float, pull: Float) -> None:
    """Fill dE/dr of each neighbour, shape (3, most).

    The gradient of Y over directions is that of the solid harmonic less its part along r, over r.
    """
    n = shell.first[-1]
    pull[:, :n] = 0.0
    for k in range(len(pairs.gradient_coefficients)):
        t, c = pairs.gradient[k], pairs.gradient_coefficients[k]
        row, h, y = pull[t[1]], across[t[0]], shell.harmonics[t[2]]
        for q in range(n):
            row[q] += c * h[q] * y[q]
    x, y, z = shell.unit[0], shell.unit[1], shell.unit[2]
    for q in range(n):
        f = along[q] - (x[q] * pull[0, q] + y[q] * pull[1, q] + z[q] * pull[2, q]) / shell.distance[q]
        pull[0, q] = f * x[q] + pull[0, q] / shell.distance[q]
        pull[1, q] = f * y[q] + pull[1, q] / shell.distance[q]
        pull[2, q] = f * z[q] + pull[2, q] / shell.distance[q]


@compiled
def infer(
    pairs: Pairs,
    tree: Tree,
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
    shell = room(pairs, start)
    most = len(shell.distance)
    along, pull, across = np.zeros(most), np.zeros((3, most)), np.zeros((len(shell.harmonics), most))
    a, g = np.zeros(len(e0) * pairs.n_features + 1), np.zeros(len(e0) * pairs.n_features + 1)
    for i in range(len(species)):
        z = species[i]
        n = gather(pairs, shell, i, start, index, vectors, species)
        sum_features(pairs, shell, a)
        site_energy[i] = e0[z] + _polynomial(tree, z, a, g)
        _unsum(pairs, shell, g, along, across)
        _pull(pairs, shell, along, across, pull)
        for q in range(n):
            j = shell.who[q]
            reach = wall.reach_A[z, species[j]]
            if shell.distance[q] < reach:
                energy, slope = repulsion(shell.distance[q], wall.charges[z], wall.charges[species[j]], reach)
                site_energy[i] += 0.5 * energy
                for axis in range(3):
                    pull[axis, q] += 0.5 * slope * shell.unit[axis, q]
            for axis in range(3):
                f = pull[axis, q]
                forces[j, axis] -= f
                forces[i, axis] += f
                for other in range(3):
                    virial[axis, other] += f * shell.unit[other, q] * shell.distance[q]


@compiled
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
    `virial` (6, n_columns) in Voigt order xx, yy, zz, yz, xz, xy, or (0, n_columns) to leave it out; all start at zero.
    """
    n_elements, n_functions = products.entry_start.shape[0], products.entry_start.shape[1] - 1
    shell = room(pairs, start)
    most = len(shell.distance)
    slopes = np.zeros((pairs.n_features, 3 * most))
    turned = np.zeros((len(shell.harmonics), 3, most))
    a = np.zeros(n_elements * pairs.n_features + 1)
    entries = np.zeros(len(products.entry_feature) + 1)
    block, column = np.zeros((TILE, 3 * most)), np.zeros(TILE)
    for i in range(len(species)):
        gather(pairs, shell, i, start, index, vectors, species)
        sum_features(pairs, shell, a)
        _feature_slopes(pairs, shell, turned, slopes)
        first = species[i] * n_functions
        _entries(products, a, entries, energy[first : first + n_functions])
        for t in range(len(products.tiles)):
            z, low, high = products.tiles[t]
            if shell.first[z] < shell.first[z + 1]:
                _multiply(products, z, low, high, 3 * shell.first[z], 3 * shell.first[z + 1], entries, slopes, block)
                _scatter(i, z, shell, vectors, first + low, high - low, block, column, forces, virial)


@compiled
def _turn(pairs: Pairs, shell: Shell, turned: Float) -> None:
    """Fill the gradient of the harmonics over directions, over r; shape (n_harmonics, 3, most)."""
    n = shell.first[-1]
    turned[:, :, :n] = 0.0
    for k in range(len(pairs.gradient_coefficients)):
        t, c = pairs.gradient[k], pairs.gradient_coefficients[k]
        row, y = turned[t[0], t[1]], shell.harmonics[t[2]]
        for q in range(n):
            row[q] += c * y[q]
    for k in range(len(pairs.angular)):
        for axis in range(3):
            row, y, u = turned[k, axis], shell.harmonics[k], shell.unit[axis]
            for q in range(n):
                row[q] = (row[q] - pairs.angular[k] * y[q] * u[q]) / shell.distance[q]


@compiled
def _feature_slopes(pairs: Pairs, shell: Shell, turned: Float, slopes: Float) -> None:
    """Fill dA/dr: row = feature of an element, columns = axis, then neighbour, within each neighbour element."""
    _turn(pairs, shell, turned)
    for z in range(len(pairs.cutoffs)):
        begin, end = shell.first[z], shell.first[z + 1]
        o = 0
        for k, first, count in pairs.blocks:
            y = shell.harmonics[k, begin:end]
            for n in range(first, first + count):
                f, df = shell.radial[n, begin:end], shell.slope[n, begin:end]
                for axis in range(3):
                    u, t = shell.unit[axis, begin:end], turned[k, axis, begin:end]
                    at = 3 * begin + axis * (end - begin)
                    row = slopes[o, at : at + end - begin]
                    for q in range(end - begin):
                        row[q] = df[q] * u[q] * y[q] + f[q] * t[q]
                o += 1


@compiled
def _entries(products: Products, a: Float, entries: Float, energy: Float) -> None:
    """Add one centre's functions to `energy` and fill the nonzero dB/dA."""
    entries[:] = 0.0
    features, entry = products.features, products.entry
    for k in range(products.ends[0]):
        w = products.coefficient[k]
        energy[products.function[k]] += w * a[features[k, 0]]
        entries[entry[k, 0]] += w
    for k in range(products.ends[0], products.ends[1]):
        w, x, y = products.coefficient[k], a[features[k, 0]], a[features[k, 1]]
        energy[products.function[k]] += w * x * y
        entries[entry[k, 0]] += w * y
        entries[entry[k, 1]] += w * x
    for k in range(products.ends[1], products.ends[2]):
        w, x, y, z = products.coefficient[k], a[features[k, 0]], a[features[k, 1]], a[features[k, 2]]
        energy[products.function[k]] += w * x * y * z
        entries[entry[k, 0]] += w * y * z
        entries[entry[k, 1]] += w * x * z
        entries[entry[k, 2]] += w * x * y
    for k in range(products.ends[2], products.ends[3]):
        w, x, y = products.coefficient[k], a[features[k, 0]], a[features[k, 1]]
        z, t = a[features[k, 2]], a[features[k, 3]]
        energy[products.function[k]] += w * x * y * z * t
        entries[entry[k, 0]] += w * y * z * t
        entries[entry[k, 1]] += w * x * z * t
        entries[entry[k, 2]] += w * x * y * t
        entries[entry[k, 3]] += w * x * y * z


@compiled
def _multiply(
    products: Products,
    z: int,
    low: int,
    high: int,
    begin: int,
    end: int,
    entries: Float,
    slopes: Float,
    block: Float,
) -> None:
    """Fill block[function - low, column - begin] = Σ dB/dA · dA/dr for some functions and one neighbour element."""
    for function in range(low, high):
        row = block[function - low, : end - begin]
        k, last = products.entry_start[z, function], products.entry_start[z, function + 1]
        source, v = slopes[products.entry_feature[k], begin:end], entries[k]
        for q in range(len(row)):
            row[q] = v * source[q]
        for later in range(k + 1, last):
            source, v = slopes[products.entry_feature[later], begin:end], entries[later]
            for q in range(len(row)):
                row[q] += v * source[q]


@compiled
def _scatter(
    centre: int,
    z: int,
    shell: Shell,
    vectors: Float,
    left: int,
    width: int,
    block: Float,
    column: Float,
    forces: Float,
    virial: Float,
) -> None:
    """Add some functions of one centre to the rows of both atoms of each pair and to the virial rows."""
    begin, n = shell.first[z], shell.first[z + 1] - shell.first[z]
    for axis in range(3):
        own = forces[3 * centre + axis, left : left + width]
        for q in range(n):
            for b in range(width):  # once from a column to a row, as each row below takes it as it lies
                column[b] = block[b, axis * n + q]
            other = forces[3 * shell.who[begin + q] + axis, left : left + width]
            for b in range(width):
                other[b] -= column[b]
            for b in range(width):
                own[b] += column[b]
            if len(virial):
                vector = vectors[shell.pair[begin + q]]
                for later in range(axis, 3):
                    row = virial[axis if later == axis else 6 - axis - later, left : left + width]
                    for b in range(width):
                        row[b] += vector[later] * column[b]
