"""The compiled loops over pairs: which atoms see each other, and the features of each centre.

One centre at a time, so that its features stay in the cache, with the neighbours sorted by element and stored beside
each other, so that the processor takes several at once.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numba
import numpy as np

from mlipbench.ace.tables import Pairs
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
