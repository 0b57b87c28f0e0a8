"""A figure of how often regressions are found, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mlipbench.power.pairs import Share

WIDTH, HEIGHT, MARGIN = 560.0, 300.0, 48.0
COLOURS: Final = ("#1f5fa8", "#b3541e", "#2f7d4f")
POWER: Final = 0.8


def smallest(sizes: Sequence[float], shares: Sequence[Share], power: float = POWER) -> float | None:
    """Return the smallest regression that is found so often, between points on a straight line; None when none is.

    >>> smallest((0.1, 0.2), (Share(hits=6, trials=10), Share(hits=10, trials=10)))
    0.15
    """
    before = (0.0, 0.0)
    for size, share in zip(sizes, shares, strict=True):
        here = share.hits / share.trials
        if here >= power:
            return round(before[0] + (size - before[0]) * (power - before[1]) / (here - before[1]), 6)
        before = (size, here)
    return None


def svg(sizes: Sequence[float], curves: Mapping[str, Sequence[Share]]) -> str:
    """Draw curves with the bars of their intervals, over the size of the regression.

    Args:
        sizes: shares by which a model is worse, ascending.
        curves: by name, one share for each size.
    """
    inner = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def place(size: float, share: float) -> tuple[float, float]:
        return MARGIN + inner[0] * size / max(sizes), HEIGHT - MARGIN - inner[1] * share

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" font-family="sans-serif" '
        'font-size="12" fill="#333333"><rect width="100%" height="100%" fill="#ffffff"/>'
    ]
    for level in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        (left, y), (right, _) = place(0.0, level), place(max(sizes), level)
        parts += [_line([(left, y), (right, y)], "#dddddd"), _text(left - 6, y + 4, f"{100 * level:.0f}", "end")]
    for size in sizes:
        x, y = place(size, 0.0)
        parts.append(_text(x, y + 16, f"{100 * size:.0f}", "middle"))
    parts.append(_text(WIDTH / 2, HEIGHT - 10, "worse by, %", "middle"))
    parts.append(_text(MARGIN - 30, MARGIN - 26, "stopped by the gate, %", "start"))
    for k, (name, shares) in enumerate(curves.items()):
        colour = COLOURS[k % len(COLOURS)]
        for size, share in zip(sizes, shares, strict=True):
            low, high = share.interval
            parts.append(_line([place(size, low), place(size, high)], colour))
        points = [place(size, share.hits / share.trials) for size, share in zip(sizes, shares, strict=True)]
        parts += [_line(points, colour, width=2.0), _text(WIDTH - MARGIN, MARGIN - 26 + 15 * k, name, "end", colour)]
    return "".join([*parts, "</svg>\n"])


def _line(points: Sequence[tuple[float, float]], colour: str, width: float = 1.0) -> str:
    """Draw a line through points."""
    told = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{told}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#333333") -> str:
    """Write words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'
