"""How often do the intervals hold the truth? `python -m mlipbench.testing.coverage` prints the tables of the docs.

Errors are drawn whose truth is known: `N_ROWS` of each of n units. Two tables: over independent units, and over frames
of one long trajectory that nobody named.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from mlipbench.core.model import Float, Int
from mlipbench.data.units import blocks
from mlipbench.physics.statistics import QUANTILES, estimate, estimates

N_DRAWS: Final = 10_000
N_ROWS: Final = 20
AT_ONCE: Final = 1000  # samples
N_UNITS: Final = (3, 6, 12, 30)
SPREAD: Final = 0.6  # of the logarithm of the size of the errors
LAWS: Final = ("Gauss", "lognormal", "t3")
CORRELATIONS: Final = (0.0, 0.5)
LIMIT: Final = 1.0  # a row above it counts as a hit
EXPOSURE: Final = 0.1  # a unit has so many events in the mean, for each row


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often the intervals of one cell held the truth.

    Attributes:
        share: of the intervals that were given, those that held it; None when none was given.
        withheld: share of draws without any interval.
        open_ended: share of draws with one end only.
    """

    share: float | None
    withheld: float
    open_ended: float


def errors(rng: np.random.Generator, law: str, correlation: float, shape: tuple[int, int, int]) -> Float:
    """Draw errors.

    Args:
        rng: source of chance.
        law: "Gauss": standard normal; "lognormal": the size of a unit's errors is lognormal, exp(0.6 g); "t3":
            each is divided by √(χ²₃/3), which makes it Student's t with three degrees of freedom.
        correlation: of the normal deviates of two rows of a unit.
        shape: number of samples, of units, and of rows of each unit.
    """
    shared, own = rng.standard_normal((*shape[:2], 1)), rng.standard_normal(shape)
    normal = np.sqrt(correlation) * shared + np.sqrt(1.0 - correlation) * own
    if law == "lognormal":
        return np.asarray(normal * np.exp(SPREAD * rng.standard_normal((*shape[:2], 1))))
    if law == "t3":
        return np.asarray(normal / np.sqrt(rng.chisquare(3, shape) / 3.0))
    return np.asarray(normal)


def root_mean_square(law: str) -> float:
    """Return the root mean square of the errors, in closed form."""
    return {"Gauss": 1.0, "lognormal": float(np.exp(SPREAD**2)), "t3": float(np.sqrt(3.0))}[law]


def mean_size(law: str) -> float:
    """Return the mean size of the errors, in closed form."""
    normal = float(np.sqrt(2.0 / np.pi))
    of_t3 = 2.0 * float(np.sqrt(3.0)) / np.pi
    return {"Gauss": normal, "lognormal": normal * float(np.exp(0.5 * SPREAD**2)), "t3": of_t3}[law]


def share_below(law: str, size: float) -> float:
    """Return the share of errors that are smaller than a size; that of the lognormal law by quadrature."""
    if law == "t3":
        return float(2.0 * stats.t.cdf(size, 3) - 1.0)
    if law == "Gauss":
        return float(2.0 * stats.norm.cdf(size) - 1.0)
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    return float(weight @ (2.0 * stats.norm.cdf(size * np.exp(-SPREAD * node)) - 1.0) / weight.sum())


def quantile(law: str, q: float) -> float:
    """Return the size that a share of errors stays below."""
    from scipy.optimize import brentq

    return float(brentq(lambda size: share_below(law, size) - q, 0.0, 100.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of value.

    Attributes:
        title: for the table.
        reducer: that it is made with.
        rows: makes sums of each unit, shape (n_samples, n_units, k), of errors, the source of chance and the
            correlation; of a quantile, the sizes of the errors themselves.
        truth: of a law.
    """

    title: str
    reducer: str
    rows: Callable[[Float, np.random.Generator, float], Float]
    truth: Callable[[str], float]


def _sums(values: Float) -> Float:
    """Return sum and count of each unit."""
    return np.stack([values.sum(axis=2), np.full(values.shape[:2], float(values.shape[2]))], axis=2)


def _relative(drawn: Float, rng: np.random.Generator, correlation: float) -> Float:
    """Return the sums of a relative RMSE against a Gaussian reference of the same correlation."""
    reference = errors(rng, "Gauss", correlation, (drawn.shape[0], drawn.shape[1], drawn.shape[2]))
    of_reference = np.stack([reference.sum(axis=2), (reference**2).sum(axis=2)], axis=2)
    return np.concatenate([_sums(drawn**2), of_reference], axis=2)


def _events(drawn: Float, rng: np.random.Generator, _: float) -> Float:
    """Return events and exposure of each unit: chance alone, whatever the errors."""
    exposure = np.full(drawn.shape[:2], float(drawn.shape[2]))
    return np.stack([rng.poisson(EXPOSURE * exposure).astype(np.float64), exposure], axis=2)


def _sizes(drawn: Float, *_: object) -> Float:
    """Return the sizes themselves."""
    return np.abs(drawn)


KINDS: Final = (
    Kind(title="RMSE", reducer="root_mean", rows=lambda e, *_: _sums(e**2), truth=root_mean_square),
    Kind(title="relative RMSE", reducer="relative_root_mean", rows=_relative, truth=root_mean_square),
    Kind(title="mean of sizes (MAE)", reducer="mean", rows=lambda e, *_: _sums(np.abs(e)), truth=mean_size),
    Kind(title="mean of either sign", reducer="mean", rows=lambda e, *_: _sums(e), truth=lambda _: 0.0),
    Kind(title="median", reducer="median", rows=_sizes, truth=lambda law: quantile(law, 0.5)),
    Kind(title="95th percentile", reducer="quantile_95", rows=_sizes, truth=lambda law: quantile(law, 0.95)),
    Kind(title="share", reducer="share", rows=lambda e, *_: _sums((np.abs(e) > LIMIT).astype(np.float64)),
         truth=lambda law: 1.0 - share_below(law, LIMIT)),
)  # fmt: skip
RATE: Final = Kind(title="rate", reducer="rate", rows=_events, truth=lambda _: EXPOSURE)


def coverage(
    kind: Kind, law: str, correlation: float, n_units: int, *, n_draws: int = N_DRAWS, n_rows: int = N_ROWS
) -> Coverage:
    """Draw samples and count the intervals that hold the truth."""
    rng = np.random.default_rng([n_units, LAWS.index(law), round(10 * correlation)])
    lowest = None if kind.title == "mean of either sign" else 0.0
    ends = []
    for start in range(0, n_draws, AT_ONCE):
        shape = (min(AT_ONCE, n_draws - start), n_units, n_rows)
        rows = kind.rows(errors(rng, law, correlation, shape), rng, correlation)
        if kind.reducer in QUANTILES:
            ends.append(_of_quantiles(rows, kind.reducer))
        else:
            ends.append(np.array(estimates(rows, kind.reducer, lowest=lowest)[2:]))
    return _counted(np.concatenate(ends, axis=1), kind.truth(law))


def _of_quantiles(sizes: Float, reducer: str) -> Float:
    """Return the ends of the intervals of many samples, shape (2, n_samples)."""
    unit = np.repeat(np.arange(sizes.shape[1]), sizes.shape[2])
    found = [estimate(sample.reshape(-1, 1), unit, reducer) for sample in sizes]
    return np.array([[np.nan if end is None else end for end in (one.low, one.high)] for one in found]).T


def _counted(ends: Float, truth: float) -> Coverage:
    """Count the intervals that hold the truth; ends: shape (2, n_samples), NaN where there is none."""
    low, high = ends
    is_open = np.isnan(ends)
    withheld = is_open.all(axis=0)
    held = (is_open[0] | (low <= truth)) & (is_open[1] | (high >= truth)) & ~withheld
    return Coverage(
        share=float(held.sum() / (~withheld).sum()) if not withheld.all() else None,
        withheld=float(withheld.mean()),
        open_ended=float((is_open[0] != is_open[1]).mean()),
    )


def trajectory_coverage(n_frames: int, correlation_frames: float, *, grouped: bool, n_draws: int = N_DRAWS) -> Coverage:
    """Count the intervals of an RMSE that hold the truth, over frames of one trajectory that nobody named.

    Args:
        n_frames: consecutive frames.
        correlation_frames: frames after which the correlation of the logarithm of the error's size, a first-order
            autoregressive process with standard deviation 0.6, is 1/e.
        grouped: in the blocks that are guessed when data are read? Else every frame is a unit.
        n_draws: trajectories.
    """
    from scipy.signal import lfilter

    rng = np.random.default_rng([n_frames, round(correlation_frames)])
    keep = float(np.exp(-1.0 / correlation_frames))
    unit: Int = np.unique(blocks(["one"] * n_frames), return_inverse=True)[1] if grouped else np.arange(n_frames)
    member = np.eye(int(unit.max()) + 1)[unit]
    ends = []
    for start in range(0, n_draws, AT_ONCE):
        kick = rng.standard_normal((min(AT_ONCE, n_draws - start), n_frames))
        kick[:, 1:] *= np.sqrt(1.0 - keep**2)
        size = np.exp(SPREAD * lfilter([1.0], [1.0, -keep], kick, axis=1))
        squares = size**2 * rng.chisquare(N_ROWS, size.shape)
        totals = np.stack([squares @ member, np.full(size.shape, float(N_ROWS)) @ member], axis=2)
        ends.append(np.array(estimates(totals, "root_mean")[2:]))
    return _counted(np.concatenate(ends, axis=1), root_mean_square("lognormal"))


def text_of(found: Coverage) -> str:
    """Return a cell of the table.

    >>> text_of(Coverage(share=0.951, withheld=0.0, open_ended=0.4))
    '95.1 (40)'
    """
    if found.share is None:
        return "–"
    return f"{100 * found.share:.1f}" + (f" ({100 * found.open_ended:.0f})" if found.open_ended >= 0.005 else "")


def main(arguments: list[str] | None = None) -> None:
    """Print both tables in Markdown."""
    parser = argparse.ArgumentParser(description="Print how often intervals hold the truth.")
    parser.add_argument("--draws", type=int, default=N_DRAWS, metavar="N", help="samples of each cell")
    parser.add_argument("--rows", type=int, default=N_ROWS, metavar="N", help="rows of each unit")
    given = parser.parse_args(arguments)
    cases = [(kind, law, correlation) for kind in KINDS for law in LAWS for correlation in CORRELATIONS]
    head = " | ".join(f"n = {n}" for n in N_UNITS)
    lines = [f"| kind | law | ρ | {head} |", "| --- " * (3 + len(N_UNITS)) + "|"]
    for kind, law, correlation in (*cases, (RATE, LAWS[0], 0.0)):
        cells = [coverage(kind, law, correlation, n, n_draws=given.draws, n_rows=given.rows) for n in N_UNITS]
        named = f"{law} | {correlation:g}" if kind is not RATE else "Poisson | –"
        lines.append(f"| {kind.title} | {named} | {' | '.join(map(text_of, cells))} |")
    lines += ["", "| frames | correlated over | each frame a unit | in blocks |", "| --- | --- | --- | --- |"]
    for n_frames in (100, 300, 1000):
        for long in (0.1, 5.0, 20.0, 50.0):
            each, grouped = (
                text_of(trajectory_coverage(n_frames, long, grouped=how, n_draws=given.draws)) for how in (False, True)
            )
            lines.append(f"| {n_frames} | {'none' if long < 1.0 else f'{long:g}'} | {each} | {grouped} |")
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
