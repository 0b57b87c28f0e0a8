"""Features of many pairs at once over torch tensors: the tables and formulas of `mlipbench.ace.kernels`.

Pairs lie along the last axis, so that neighbouring numbers get the same treatment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.couplings import solid_harmonics
from mlipbench.ace.torch_batch import Chunk

if TYPE_CHECKING:
    import torch


class PairTables(NamedTuple):
    """What the features of a pair are made of, on the device; see `Basis`, `Functions` and `Harmonics`.

    Attributes:
        cutoffs: shape (n_elements, n_elements), Å.
        decay: of the distance transform.
        envelopes: powers for products and for pair features.
        n_features: per neighbour element.
        radial_counts: radial functions of products kept for each l in use.
        n_pair_features: radial functions of pair features, which follow those of products.
        powers: shape (n_monomials, 3), of x, y and z.
        harmonics: shape (n_harmonics, n_monomials).
        gradients: shape (3, n_harmonics, n_harmonics), factor of S_q in dS_k/dx_a at [a, k, q].
    """

    cutoffs: torch.Tensor
    decay: float
    envelopes: tuple[int, int]
    n_features: int
    radial_counts: tuple[int, ...]
    n_pair_features: int
    powers: torch.Tensor
    harmonics: torch.Tensor
    gradients: torch.Tensor


class PairFeatures(NamedTuple):
    """What the features R_n(r) Y_lm of some pairs, all of whose centres are of one element, are made of.

    Attributes:
        distance: shape (p,), Å.
        unit: shape (3, p), direction.
        radial: R_n, shape (n_radial, p).
        slope: dR_n/dr, shape (n_radial, p).
        harmonics: Y_lm, shape (n_harmonics, p).
    """

    distance: torch.Tensor
    unit: torch.Tensor
    radial: torch.Tensor
    slope: torch.Tensor
    harmonics: torch.Tensor


def torch_pair_tables(basis: Basis, like: torch.Tensor) -> PairTables:
    """Return the tables of a basis, in the precision and on the device of a tensor."""
    import torch

    table = functions(basis)
    used = int(np.flatnonzero(table.radial_counts).max(initial=0))
    tables = solid_harmonics(used)
    powers, monomial = np.unique(tables.powers[:, 1:], axis=0, return_inverse=True)
    harmonics = np.zeros(((used + 1) ** 2, len(powers)))
    harmonics[tables.powers[:, 0], monomial.reshape(-1)] = tables.coefficients
    gradients = np.zeros((3, len(harmonics), len(harmonics)))
    k, axis, q = tables.gradient.T
    gradients[axis, k, q] = tables.gradient_coefficients
    return PairTables(
        cutoffs=torch.from_numpy(basis.cutoffs_A).to(like),
        decay=basis.decay,
        envelopes=(basis.envelope, basis.pair_envelope),
        n_features=table.n_features,
        radial_counts=tuple(table.radial_counts[: used + 1].tolist()),
        n_pair_features=table.n_pair_features,
        powers=torch.from_numpy(powers).to(like.device),
        harmonics=torch.from_numpy(harmonics).to(like),
        gradients=torch.from_numpy(gradients).to(like),
    )


def pair_features(tables: PairTables, chunk: Chunk) -> PairFeatures:
    """Return what the features of the pairs of a chunk are made of."""
    import torch

    distance = torch.linalg.vector_norm(chunk.vector, dim=1)
    unit = (chunk.vector / distance[:, None]).T.contiguous()
    cutoff = tables.cutoffs[chunk.element].index_select(0, chunk.neighbour_element)
    radial, slope = _radial(tables, distance, cutoff)
    return PairFeatures(distance, unit, radial, slope, _harmonics(tables, unit))


def _radial(tables: PairTables, distance: torch.Tensor, cutoff: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return R_n(r) and dR_n/dr: Chebyshev polynomials in the transformed distance, times the envelope of each kind.

    To be kept in step with its namesake among the compiled loops. Beyond the cutoff, both are zero.
    """
    import torch

    last = float(np.exp(-tables.decay))
    t = torch.exp(-tables.decay * distance / cutoff)
    x = 1.0 - 2.0 * (t - last) / (1.0 - last)
    dx = 2.0 * tables.decay / cutoff * t / (1.0 - last)
    u = (1.0 - (distance / cutoff) ** 2).clamp(min=0.0)
    values, slopes = [], []
    for envelope, count in zip(tables.envelopes, (max(tables.radial_counts), tables.n_pair_features), strict=True):
        lower = u ** (envelope - 1)
        f, df = [lower * u], [-2.0 * envelope * lower * distance / cutoff**2]
        while len(f) < count:
            df.append(dx * f[0] + x * df[0] if len(f) == 1 else 2.0 * (dx * f[-1] + x * df[-1]) - df[-2])
            f.append(x * f[0] if len(f) == 1 else 2.0 * x * f[-1] - f[-2])
        values += f[:count]
        slopes += df[:count]
    return torch.stack(values), torch.stack(slopes)


def _harmonics(tables: PairTables, unit: torch.Tensor) -> torch.Tensor:
    """Return the harmonics of some directions, shape (n_harmonics, p)."""
    import torch

    powers = [torch.ones_like(unit)]
    for _ in tables.radial_counts[1:]:
        powers.append(powers[-1] * unit)
    table = torch.stack(powers, dim=1)  # (axis, power, p)
    x, y, z = (table[axis].index_select(0, tables.powers[:, axis]) for axis in range(3))
    return tables.harmonics @ (x * y * z)


def _blocks(tables: PairTables) -> Iterator[tuple[slice, slice, slice]]:
    """Yield radial functions, features and harmonics: for each l, and for the pair features."""
    first = 0
    for angular, n in enumerate(tables.radial_counts):
        width = 2 * angular + 1
        yield slice(0, n), slice(first, first + n * width), slice(angular**2, angular**2 + width)
        first += n * width
    beyond = max(tables.radial_counts)
    yield slice(beyond, beyond + tables.n_pair_features), slice(first, first + tables.n_pair_features), slice(0, 1)


def features(tables: PairTables, pairs: PairFeatures) -> torch.Tensor:
    """Return the features of each pair, shape (n_features, p)."""
    import torch

    found = [
        (pairs.radial[rows, None] * pairs.harmonics[None, those]).flatten(0, 1) for rows, _, those in _blocks(tables)
    ]
    return torch.cat(found)


def summed(tables: PairTables, chunk: Chunk, pairs: PairFeatures) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A of each centre, shape (n_elements · n_features, m), and which n_features of it a pair adds to.

    The latter counts elements within centres, shape (p,).
    """
    n_elements = len(tables.cutoffs)
    slot = chunk.owner * n_elements + chunk.neighbour_element
    values = features(tables, pairs).T.contiguous()
    found = values.new_zeros((len(chunk.centre) * n_elements, tables.n_features)).index_add_(0, slot, values)
    return found.view(len(chunk.centre), n_elements * tables.n_features).T.contiguous(), slot


def gradient(tables: PairTables, pairs: PairFeatures) -> torch.Tensor:
    """Return the derivatives of the features by the vector of the pair, shape (3, n_features, p)."""
    import torch

    slope = tables.gradients @ pairs.harmonics
    found = []
    for rows, _, those in _blocks(tables):
        angular = (those.stop - those.start) // 2
        # The gradient of Y over directions is that of the solid harmonic less its part along r, over r.
        radially = pairs.harmonics[those] * pairs.unit[:, None]
        across = (slope[:, those] - angular * radially) / pairs.distance
        found.append(pairs.slope[rows, None] * radially[:, None] + pairs.radial[rows, None] * across[:, None])
    return torch.cat([part.flatten(1, 2) for part in found], dim=1)


def pulled_back(tables: PairTables, pairs: PairFeatures, adjoint: torch.Tensor) -> torch.Tensor:
    """Return Σ adjoint · gradient over the features, shape (3, p), without making the gradient.

    Args:
        tables: of the basis.
        pairs: of the features.
        adjoint: shape (n_features, p), derivative of an energy by each feature.
    """
    import torch

    along, across = torch.zeros_like(pairs.radial), torch.zeros_like(pairs.harmonics)
    for rows, these, those in _blocks(tables):
        part = adjoint[these].unflatten(0, (rows.stop - rows.start, those.stop - those.start))
        along[rows] += (part * pairs.harmonics[those]).sum(dim=1)
        across[those] += (part * pairs.radial[rows, None]).sum(dim=0)
    slope = ((tables.gradients.transpose(1, 2) @ across) * pairs.harmonics).sum(dim=1) / pairs.distance
    radially = (along * pairs.slope).sum(dim=0) - (slope * pairs.unit).sum(dim=0)
    return slope + radially * pairs.unit


def without_each(factors: Sequence[torch.Tensor], weight: torch.Tensor) -> list[torch.Tensor]:
    """Return, for each factor, the product of a weight and of all other factors."""
    before = [weight]
    for factor in factors[:-1]:
        before.append(before[-1] * factor)
    result, after = [before[-1].expand_as(factors[-1])], factors[-1]
    for k in range(len(factors) - 2, -1, -1):
        result.append(before[k] * after)
        after = after * factors[k] if k else after
    return result[::-1]
