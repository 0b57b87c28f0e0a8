"""How does a number read?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from mlipbench.core.metric import MetricValue

NARROW_SPACE: Final = "\u202f"
_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, *, uncertainty: float | None = None) -> str:
    """Write a number to three significant digits, or to the second digit of its uncertainty.

    >>> number(0.012345), number(1234.5), number(3.2e-9), number(82.13, uncertainty=9.21)
    ('0.0123', '1230', '3.2×10⁻⁹', '82.1')
    >>> number(2.23, uncertainty=130.0)
    '2.2'
    """
    if value == 0.0:
        return "0"
    if not 1e-4 <= abs(value) < 1e8:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    digits = 2 - math.floor(math.log10(abs(value)))
    if uncertainty is not None and uncertainty > 0.0:
        # two digits of the value stand, however uncertain it is
        digits = max(min(1 - math.floor(math.log10(uncertainty)), digits + 2), digits - 1)
    return _fixed(value, digits)


def _fixed(value: float, digits: int) -> str:
    """Write a number with so many decimals, groups of three digits set apart from 10 000 on."""
    rounded = round(value, digits)
    text = f"{rounded:.{max(digits, 0)}f}"
    return f"{rounded:,.{max(digits, 0)}f}".replace(",", NARROW_SPACE) if abs(rounded) >= 10_000 else text


def n_of(value: MetricValue) -> str:
    """Say of how many systems there is an answer, where not of all: "20 of 22", failures named apart.

    >>> n_of(MetricValue(metric="m", value=1.0, n=9, failed=("a",), n_all=22))
    '9 of 22, 1 failed'
    """
    if not value.failed and value.n_all in (None, value.n):
        return ""
    n_all = value.n + len(value.failed) if value.n_all is None else value.n_all
    return f"{value.n} of {n_all}{f', {len(value.failed)} failed' if value.failed else ''}"


def spread(value: MetricValue) -> str:
    """Write the 95 % interval as "± x", as "+a −b" where it is lopsided, or its one end; empty when there is none."""
    if value.low is None or value.high is None:
        return (
            f"≥ {number(value.low)}"
            if value.low is not None
            else f"≤ {number(value.high)}"
            if value.high is not None
            else ""
        )
    below, above = value.value - value.low, value.high - value.value
    larger, smaller = max(below, above), min(below, above)
    if larger == 0.0:
        return "± 0"
    if smaller > 0.8 * larger:
        return f"± {_short(0.5 * (below + above), value.value)}"
    return f"+{_short(above, value.value)} −{_short(below, value.value)}"


def widest(value: MetricValue) -> str:
    """Write the 95 % interval as "± x" with the wider of its two sides, or its one end; empty when there is none."""
    if value.low is None or value.high is None:
        return spread(value)
    return f"±{_short(max(value.value - value.low, value.high - value.value), value.value)}"


def _short(width: float, value: float) -> str:
    """Write a width to two digits, in powers of ten where the value is."""
    if width == 0.0:
        return "0"
    if not 1e-4 <= abs(value or width) < 1e8 or width < 1e-6:
        return number(width) if not 1e-4 <= width < 1e8 else f"{width:.2g}"
    return _fixed(width, 1 - math.floor(math.log10(width)))


def measured(value: MetricValue) -> str:
    """Write a value to the precision its interval allows."""
    if value.low is None or value.high is None:
        return number(value.value)
    return number(value.value, uncertainty=0.5 * (value.high - value.low))


def duration(seconds: float) -> str:
    """Write a time span.

    >>> duration(0.031), duration(42.0), duration(187.0), duration(7500.0)
    ('31 ms', '42 s', '3 min 7 s', '2 h 5 min')
    """
    if seconds < 1.0:
        return f"{1000.0 * seconds:.0f} ms"
    if seconds < 10.0:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def listed(items: list[str], *, at_most: int = 4) -> str:
    """Join words as in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], at_most=2)
    ('a, b and c', 'a, b and 1 more')
    """
    if len(items) > at_most:
        return f"{', '.join(items[:at_most])} and {len(items) - at_most} more"
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def count(n: int, noun: str) -> str:
    """Count a noun.

    >>> count(1, "row"), count(3, "row")
    ('1 row', '3 rows')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def plain(value: Any) -> str:
    """Write a fact: numbers short, lists and mappings on one line."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(plain(item) for item in value)
    return str(value)
