"""How far apart are atoms: radial distribution functions, within molecules and between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.cells import Float, Int, plane_spacings

INTRA, INTER = 0, 1
SMOOTHING_A: Final = 0.1  # of a curve before its peaks are looked for
PEAK_SHARE: Final = 0.3  # the first peak is the first one that reaches this share of the highest
RISE_SHARE: Final = 0.05  # of a peak's height, by which a curve must rise again before a minimum is more than noise


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCounts:
    """Distances between atoms of some kinds, counted in bins, over some frames.

    Attributes:
        edges_A: shape (n_bins + 1,), from 0.
        counts: shape (n_pairs, 2, n_bins): pairs within molecules and between them, each pair of atoms once.
        n_kind: shape (n_kinds,), atoms of each kind.
        density: shape (n_pairs,), pairs per Å^3 that an ideal gas would have, summed over frames.
        n_frames: counted.
    """

    edges_A: Float
    counts: Float
    n_kind: Int
    density: Float
    n_frames: int

    def __add__(self, other: PairCounts) -> PairCounts:
        """Return the counts of the frames of both."""
        return PairCounts(
            edges_A=self.edges_A, counts=self.counts + other.counts, n_kind=self.n_kind,
            density=self.density + other.density, n_frames=self.n_frames + other.n_frames,
        )  # fmt: skip

    @property
    def middle_A(self) -> Float:
        """Middle of each bin, shape (n_bins,)."""
        return 0.5 * (self.edges_A[1:] + self.edges_A[:-1])

    @property
    def shell_A3(self) -> Float:
        """Volume of each bin's shell, shape (n_bins,)."""
        found: Float = 4.0 / 3.0 * np.pi * np.diff(self.edges_A**3)
        return found

    def g(self) -> Float:
        """Return the distribution of distances, shape (n_pairs, 2, n_bins); both parts add up to 1 in an ideal gas."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.counts / (self.density[:, None, None] * self.shell_A3)
        return np.nan_to_num(found, nan=0.0, posinf=0.0)

    def coordination(self, *, pair: int, within_A: float, which: int = INTER) -> float:
        """Return how many atoms of the second kind are closer than a distance to one of the first, on average."""
        first, _ = kind_pairs(len(self.n_kind))[pair]
        chosen = self.edges_A[1:] <= within_A + 1e-9
        both = 2.0 if pair in _like(len(self.n_kind)) else 1.0
        return both * float(self.counts[pair, which, chosen].sum()) / (float(self.n_kind[first]) * self.n_frames)


def kind_pairs(n_kinds: int) -> list[tuple[int, int]]:
    """Return the pairs of kinds in the order of `PairCounts`.

    >>> kind_pairs(2)
    [(0, 0), (0, 1), (1, 1)]
    """
    return [(a, b) for a in range(n_kinds) for b in range(a, n_kinds)]


def _like(n_kinds: int) -> set[int]:
    return {k for k, (a, b) in enumerate(kind_pairs(n_kinds)) if a == b}


def count_pairs(
    positions: NDArray[Any], cells: Float, kinds: Int, molecule: Int, *, r_max_A: float, n_bins: int
) -> PairCounts:
    """Count the distances between nearest images of all pairs of atoms.

    Args:
        positions: shape (n_frames, n_atoms, 3), Å; atoms may lie outside the cell.
        cells: shape (n_frames, 3, 3), Å.
        kinds: shape (n_atoms,), from 0; negative for atoms that are not counted.
        molecule: shape (n_atoms,), molecule number of each atom.
        r_max_A: end of the last bin.
        n_bins: from 0 to there.

    Raises:
        NotApplicable: a frame's cell is narrower than twice `r_max_A`, so that nearest images are not all there is.
    """
    used = np.flatnonzero(kinds >= 0)
    own, group = kinds[used].astype(np.int64), np.ascontiguousarray(molecule[used].astype(np.int64))
    n_kinds = int(own.max()) + 1 if len(own) else 1
    widths = np.array([plane_spacings(cell).min() for cell in cells])
    if len(widths) and widths.min() < 2.0 * r_max_A - 1e-9:
        frame = int(np.argmin(widths))
        raise NotApplicable(
            f"distances up to {r_max_A} Å need a cell at least {2 * r_max_A} Å wide; that of frame {frame} is "
            f"{widths[frame]:.3f} Å: choose a smaller r_max_A"
        )
    pair_of = np.zeros((n_kinds, n_kinds), dtype=np.int64)
    for k, (a, b) in enumerate(kind_pairs(n_kinds)):
        pair_of[a, b] = pair_of[b, a] = k
    counts = np.zeros((len(kind_pairs(n_kinds)), 2, n_bins), dtype=np.int64)
    order = np.argsort(own, kind="stable")
    straight = bool((np.abs(cells - cells * np.eye(3)) == 0.0).all())
    loop = _count_straight if straight else _count_skewed
    chosen = np.ascontiguousarray(positions[:, used[order]], dtype=np.float64)
    for where, cell in zip(chosen, cells, strict=True):
        inverse = np.linalg.inv(cell)
        fractional = where @ inverse
        fractional -= np.floor(fractional)
        loop(np.ascontiguousarray(fractional.T), cell, own[order], group[order], pair_of, float(r_max_A), counts)
    n_kind = np.bincount(own, minlength=n_kinds)
    volumes = np.abs(np.linalg.det(cells))
    pairs = np.array([
        n_kind[a] * (n_kind[a] - 1) / 2 if a == b else n_kind[a] * n_kind[b] for a, b in kind_pairs(n_kinds)
    ])
    return PairCounts(
        edges_A=np.linspace(0.0, r_max_A, n_bins + 1), counts=counts.astype(np.float64), n_kind=n_kind,
        density=pairs * float((1.0 / volumes).sum()), n_frames=len(cells),
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz", "reassoc"}, error_model="numpy")
def _count_straight(
    fractional: Float, cell: Float, kinds: Int, molecule: Int, pair_of: Int, r_max: float, counts: Int
) -> None:
    n, n_bins = fractional.shape[1], counts.shape[2]
    scale, limit = n_bins / r_max, r_max * r_max
    a, b, c = abs(cell[0, 0]), abs(cell[1, 1]), abs(cell[2, 2])
    x, y, z = fractional[0] * a, fractional[1] * b, fractional[2] * c
    square = np.empty(n)
    for i in range(n - 1):
        for j in range(i + 1, n):
            dx, dy, dz = abs(x[j] - x[i]), abs(y[j] - y[i]), abs(z[j] - z[i])
            dx, dy, dz = min(dx, a - dx), min(dy, b - dy), min(dz, c - dz)
            square[j] = dx * dx + dy * dy + dz * dz
        for j in range(i + 1, n):
            if square[j] < limit:
                place = int(np.sqrt(square[j]) * scale)
                if place < n_bins:
                    counts[pair_of[kinds[i], kinds[j]], int(molecule[i] != molecule[j]), place] += 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _count_skewed(
    fractional: Float, cell: Float, kinds: Int, molecule: Int, pair_of: Int, r_max: float, counts: Int
) -> None:
    n, n_bins = fractional.shape[1], counts.shape[2]
    scale, limit = n_bins / r_max, r_max * r_max
    for i in range(n - 1):
        for j in range(i + 1, n):
            u = fractional[0, j] - fractional[0, i]
            v = fractional[1, j] - fractional[1, i]
            w = fractional[2, j] - fractional[2, i]
            # An image within half the narrowest width is no farther than half a cell along each lattice vector, so
            # only this one can be so close, though others may be closer where none is within that reach.
            u, v, w = u - np.rint(u), v - np.rint(v), w - np.rint(w)
            dx = u * cell[0, 0] + v * cell[1, 0] + w * cell[2, 0]
            dy = u * cell[0, 1] + v * cell[1, 1] + w * cell[2, 1]
            dz = u * cell[0, 2] + v * cell[1, 2] + w * cell[2, 2]
            square = dx * dx + dy * dy + dz * dz
            if square < limit:
                place = int(np.sqrt(square) * scale)
                if place < n_bins:
                    counts[pair_of[kinds[i], kinds[j]], int(molecule[i] != molecule[j]), place] += 1


def l1_distance(g: Float, reference: Float) -> float:
    """Return Σ|g - g_ref| / Σ(g + g_ref): 0 for the same, 1 for nothing in common.

    Source: C. Schran et al., PNAS 118, e2110077118 (2021), whose score is one less this.

    >>> l1_distance(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    1.0
    """
    total = float((g + reference).sum())
    return float(np.abs(g - reference).sum()) / total if total > 0.0 else 0.0


def wasserstein(g: Float, reference: Float, middle_A: Float) -> float:
    """Return how far, in Å, pairs must be moved on average to turn one r² g(r) into the other.

    Unlike the L1 distance it grows with the shift of a peak after the peaks have parted.

    >>> r = np.arange(0.05, 6.0, 0.1)
    >>> peak = lambda at: np.exp(-50 * (r - at) ** 2) / r**2
    >>> round(wasserstein(peak(3.0), peak(4.0), r), 3)
    1.0
    """
    ours, theirs = middle_A**2 * g, middle_A**2 * reference
    if not ours.sum() > 0.0 or not theirs.sum() > 0.0:
        return 0.0 if ours.sum() == theirs.sum() else float(middle_A[-1])
    apart = np.cumsum(ours / ours.sum() - theirs / theirs.sum())
    return float(np.abs(apart).sum() * (middle_A[1] - middle_A[0]))


def first_peak(middle_A: Float, g: Float) -> tuple[float, float]:
    """Return place (Å) and height of the first peak that reaches a third of the highest, after a little smoothing."""
    smooth = _smooth(middle_A, g)
    tops = np.flatnonzero((smooth[1:-1] >= smooth[:-2]) & (smooth[1:-1] > smooth[2:])) + 1
    tops = tops[smooth[tops] >= PEAK_SHARE * smooth.max(initial=0.0)]
    if not len(tops):
        k = int(np.argmax(smooth))
        return float(middle_A[k]), float(smooth[k])
    k = int(tops[0])
    # The parabola through three points finds the place to a fraction of a bin.
    left, top, right = smooth[k - 1 : k + 2]
    bend = left - 2.0 * top + right
    shift = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
    return float(middle_A[k] + shift * (middle_A[1] - middle_A[0])), float(top)


def first_valley(middle_A: Float, g: Float) -> tuple[float, float]:
    """Return place (Å) and depth of the first minimum beyond the first peak, or the lowest point of what is left.

    A minimum counts once the curve has risen from it by a twentieth of the peak's height, so that ripples of noise on
    the way down do not.
    """
    smooth = _smooth(middle_A, g)
    place_A, height = first_peak(middle_A, g)
    lowest = min(int(np.searchsorted(middle_A, place_A)), len(smooth) - 1)
    for k in range(lowest + 1, len(smooth)):
        if smooth[k] <= smooth[lowest]:
            lowest = k
        elif smooth[k] > smooth[lowest] + RISE_SHARE * height:
            break
    return float(middle_A[lowest]), float(smooth[lowest])


def _smooth(middle_A: Float, g: Float) -> Float:
    width = SMOOTHING_A / float(middle_A[1] - middle_A[0])
    found: Float = gaussian_filter1d(g, width, mode="nearest")
    return found


def noise_floor(blocks: Sequence[Float], *, n: float, n_reference: float) -> float:
    """Return the L1 distance that sampling alone is expected to give between two runs of the same system.

    Args:
        blocks: g of independent pieces of equal worth, two or more.
        n: how many such pieces the run compared is worth.
        n_reference: how many the reference is worth.

    Raises:
        BadInput: there are fewer than two pieces, which have no spread.
    """
    if len(blocks) < 2:
        raise BadInput(f"the noise of g(r) needs two pieces of a run or more; got {len(blocks)}")
    every = np.array(blocks)
    spread = every.std(axis=0, ddof=1)
    # The mean size of a normal number is √(2/π) of its standard deviation.
    expected = np.sqrt(2.0 / np.pi) * spread * np.sqrt(1.0 / n + 1.0 / n_reference)
    total = 2.0 * float(every.mean(axis=0).sum())
    return float(expected.sum()) / total if total > 0.0 else 0.0
