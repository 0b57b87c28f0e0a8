"""The compiled loops of the linear ACE: energies, forces and virials, and the rows of the design matrix.

Derivatives come by the adjoint: first dE/dA (or the sparse dB/dA) of one centre, then its product with what each pair
adds to A.
"""

from __future__ import annotations

import numpy as np

from mlipbench.ace.shells import Shell, compiled, gather, room, sum_features
from mlipbench.ace.tables import TILE, Pairs, Products, Tree, Wall
from mlipbench.core.model import Float, Int


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
