"""What describes an atom's surroundings? ACE functions and the SOAP power spectrum, from the same sums over neighbours.

Both are products of A_znlm(i) = Σ_j R_nl(r_ij) Y_lm(r_ij) over the neighbours j of element z: in the ACE with R_n(r),
in SOAP with the radial functions of a Gaussian at distance r.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.couplings import solid_harmonics
from mlipbench.ace.kernels import site_functions
from mlipbench.ace.neighbours import Neighbours, neighbours
from mlipbench.ace.potential import species_of
from mlipbench.ace.shells import compiled, gather, room
from mlipbench.ace.soap import Smeared, Soap, smeared
from mlipbench.ace.tables import Pairs, pair_tables, product_tables
from mlipbench.core.model import Float, Int

if TYPE_CHECKING:
    from ase import Atoms


def ace_features(frame: Atoms, basis: Basis, pairs: Neighbours | None = None) -> Float:
    """Return the functions B_b(i) of each atom, in the order of `functions(basis)`.

    A linear ACE without wall has the site energies E0(z_i) + Σ_b c_b(z_i) B_b(i).

    Args:
        frame: structure; it is not changed.
        basis: the functions.
        pairs: its neighbours within the cutoff (or a little more), when they are known already.

    Returns:
        Shape (n_atoms, n_functions), without unit.

    Raises:
        NotApplicable: it holds an element that the basis does not cover.
        ModelFailure: two atoms lie on top of each other.
        BadInput: positions or cell make no sense.
    """
    species = species_of(frame, basis.numbers)
    found = neighbours(frame, basis.cutoff_A) if pairs is None else pairs
    features = np.zeros((len(frame), functions(basis).n_functions))
    site_functions(pair_tables(basis), product_tables(basis), found.start, found.index, found.vector, species, features)
    return features


def soap_features(frame: Atoms, soap: Soap, pairs: Neighbours | None = None) -> Float:
    """Return the power spectrum of each atom, not normalised.

    Args:
        frame: structure; it is not changed.
        soap: the descriptor.
        pairs: its neighbours within `soap.reach_A` (or a little more), when they are known already.

    Returns:
        Shape (n_atoms, soap.n_features), by l, then by channel (z, n) and not earlier channel (z', n').

    Raises:
        NotApplicable: it holds an element that the descriptor does not cover.
        ModelFailure: two atoms lie on top of each other.
        BadInput: positions or cell make no sense.
    """
    species = species_of(frame, soap.numbers)
    found = neighbours(frame, soap.reach_A) if pairs is None else pairs
    features = np.zeros((len(frame), soap.n_features))
    _fill_soap(_directions(soap), smeared(soap), found.start, found.index, found.vector, species, features)
    return features


def _directions(soap: Soap) -> Pairs:
    """Return the tables of harmonics and reach; `Smeared` holds the radial functions."""
    tables = solid_harmonics(soap.l_max)
    return Pairs(
        cutoffs=np.full((len(soap.numbers),) * 2, soap.reach_A),
        decay=1.0,
        envelopes=np.full(2, 3),
        radial_counts=np.zeros(2, dtype=np.int64),
        n_features=0,
        blocks=np.zeros((0, 3), dtype=np.int64),
        angular=np.repeat(np.arange(soap.l_max + 1), 2 * np.arange(soap.l_max + 1) + 1),
        powers=tables.powers,
        coefficients=tables.coefficients,
        gradient=tables.gradient,
        gradient_coefficients=tables.gradient_coefficients,
    )


@compiled
def _fill_soap(
    pairs: Pairs, table: Smeared, start: Int, index: Int, vectors: Float, species: Int, features: Float
) -> None:
    """Fill the power spectrum of each atom."""
    n_max, n_l, n_elements = table.n_max, pairs.angular[-1] + 1, len(pairs.cutoffs)
    shell = room(pairs, start)
    a = np.zeros((n_l * n_l, n_elements * n_max))
    radial = np.zeros(n_l * n_max)
    for i in range(len(species)):
        gather(pairs, shell, i, start, index, vectors, species)
        a[:] = 0.0
        for n in range(n_max):
            a[0, species[i] * n_max + n] = table.centre[n]
        for z in range(n_elements):
            for q in range(shell.first[z], shell.first[z + 1]):
                _look_up(table, shell.distance[q], radial)
                for angular in range(n_l):
                    f = radial[angular * n_max : (angular + 1) * n_max]
                    for k in range(angular * angular, (angular + 1) * (angular + 1)):
                        y, row = shell.harmonics[k, q], a[k, z * n_max : (z + 1) * n_max]
                        for n in range(n_max):
                            row[n] += y * f[n]
        power_spectrum(table, a, features[i])


@compiled
def _look_up(table: Smeared, distance: float, radial: Float) -> None:
    """Fill w(r) f_nl(r), shape ((l_max + 1) · n_max,)."""
    place = distance / table.step
    interval = min(int(place), len(table.coefficients) - 1)
    x = 2.0 * (place - interval) - 1.0
    row, m = table.coefficients[interval], len(radial)
    # Written out, so that the processor takes several radial functions at once and keeps them in registers.
    for c in range(m):
        upper = ((row[c] * x + row[m + c]) * x + row[2 * m + c]) * x + row[3 * m + c]
        upper = ((upper * x + row[4 * m + c]) * x + row[5 * m + c]) * x + row[6 * m + c]
        radial[c] = upper * x + row[7 * m + c]
    if table.transition > 0.0 and distance > table.begin:
        u = 1.0 - (distance - table.begin) / table.transition
        radial *= u * u * u * (10.0 - 15.0 * u + 6.0 * u * u)


@compiled
def power_spectrum(table: Smeared, a: Float, spectrum: Float) -> None:
    """Fill (2l + 1)^-1/2 Σ_m A_clm A_c'lm for all l and all channels c ≤ c'.

    Args:
        table: of which the weights count.
        a: shape ((l_max + 1)², n_channels), harmonic l² + l + m in the rows.
        spectrum: filled.
    """
    n_channels = a.shape[1]
    o = 0
    for angular in range(len(table.weights)):
        for c in range(n_channels):
            out = spectrum[o : o + n_channels - c]
            out[:] = 0.0
            for k in range(angular * angular, (angular + 1) * (angular + 1)):
                x, row = a[k, c] * table.weights[angular], a[k, c:]
                for d in range(n_channels - c):
                    out[d] += x * row[d]
            if table.crossed != 1.0:
                out[1:] *= table.crossed
            o += n_channels - c
