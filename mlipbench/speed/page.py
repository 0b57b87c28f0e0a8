"""How are the comparisons written down?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any, Final

from mlipbench.report.page import replace_whole
from mlipbench.report.panels import FONT, INK, colour, escaped, layout, log_axis
from mlipbench.speed.comparison import HOST, Absent, Comparison, Curve, Found

SCHEMA: Final = 2
STYLE: Final = f"""
body {{ font-family: {FONT}; color: {INK}; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; font-size: 0.9rem; }}
th, td {{ text-align: left; padding: 0.3rem 0.6rem; border-bottom: 1px solid #e3e8ed; vertical-align: top; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
small {{ color: #5a6875; }}
.bad {{ color: #b3261e; font-weight: 600; }}
"""


def write(found: Sequence[Found], folder: Path) -> tuple[Path, Path]:
    """Write `speed.json` and `speed.html`, each replaced whole, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "speed.json", folder / "speed.html"
    replace_whole(paths[0], json.dumps(record(found), indent=1, allow_nan=False) + "\n")
    replace_whole(paths[1], page(found))
    return paths


def record(found: Sequence[Found]) -> dict[str, Any]:
    """Return what the JSON file holds: comparisons, what was absent, and curves with their slopes."""
    return {
        "schema": SCHEMA,
        "comparisons": [
            {**asdict(one), "is_met": one.is_met} for one in found if isinstance(one, Comparison)
        ],
        "absent": [asdict(one) for one in found if isinstance(one, Absent)],
        "growth": [{**asdict(one), "slope": one.slope} for one in found if isinstance(one, Curve)],
    }  # fmt: skip


def page(found: Sequence[Found]) -> str:
    """Return one HTML page that opens from disk, with the tables and the figures."""
    curves = [one for one in found if isinstance(one, Curve)]
    return "\n".join((
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Speed</title>',
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>Speed</h1>",
        f"<p>Medians on {escape(HOST)}, one thread each. Ratios are compared with the bars; times depend on the "
        "machine and on what else ran there.</p>",
        _comparisons(found),
        "<h2>Growth</h2>\n" + _slopes(curves) + _figures(curves) if curves else "",
        "</body>\n</html>\n",
    ))  # fmt: skip


def _comparisons(found: Sequence[Found]) -> str:
    """Return the table of comparisons, what was absent included."""
    lines = []
    for one in found:
        if isinstance(one, Comparison):
            note = f"<br><small>{escape(one.note)}</small>" if one.note else ""
            peer = "" if one.peer is None else f"{one.peer:.4g}"
            verdict = f'<span class="bad">{one.verdict}</span>' if one.verdict == "MISSED" else one.verdict
            cells = (f"{one.ours:.4g}", peer, escape(one.unit), f"{one.ratio:.3g}", escape(one.bar), verdict)
            lines.append(_line(escape(one.name) + note, cells))
        elif isinstance(one, Absent):
            reason = f'{escape(one.name)}<br><small class="bad">{escape(one.reason)}</small>'
            lines.append(_line(reason, ("", "", "", "", escape(one.bar), "not measured")))
    head = "<tr><th>what</th><th>ours</th><th>peer</th><th>unit</th><th>ratio</th><th>bar</th><th></th></tr>"
    return f"<table>\n{head}\n" + "\n".join(lines) + "\n</table>"


def _line(first: str, cells: Sequence[str]) -> str:
    return f"<tr><td>{first}</td>" + "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>"


def _slopes(curves: Sequence[Curve]) -> str:
    """Return the table of exponents."""
    lines = [
        _line(escape(one.stage), (escape(one.variable), f"{min(one.x):.4g} to {max(one.x):.4g}", f"{one.slope:.2f}"))
        for one in curves
    ]
    head = "<tr><th>cost of</th><th>against</th><th>range</th><th>exponent</th></tr>"
    return f"<table>\n{head}\n" + "\n".join(lines) + "\n</table>"


def _figures(curves: Sequence[Curve]) -> str:
    """Return one drawing for each variable, with the drawing library in the page."""
    import plotly.graph_objects as go

    parts: list[str] = []
    for variable in dict.fromkeys(one.variable for one in curves):
        chosen = [one for one in curves if one.variable == variable]
        figure = go.Figure(data=[_trace(one, place) for place, one in enumerate(chosen)], layout=_layout(chosen))
        settings = {"include_plotlyjs": not parts, "config": {"displaylogo": False}, "div_id": f"growth-{len(parts)}"}
        parts.append(figure.to_html(full_html=False, **settings))
    return "\n".join(parts)


def _trace(curve: Curve, place: int) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines+markers", "x": list(curve.x), "y": list(curve.y),
        "line": {"color": colour(place)},
        "name": escaped(f"{curve.stage} ({curve.unit}), exponent {curve.slope:.2f}"),
    }  # fmt: skip


def _layout(curves: Sequence[Curve]) -> dict[str, Any]:
    """Return axes of decades around all points."""
    xs, ys = [x for one in curves for x in one.x], [y for one in curves for y in one.y]
    return {
        **layout(height=380),
        "showlegend": True,
        "xaxis": log_axis(escaped(curves[0].variable), 0.9 * min(xs), 1.1 * max(xs)),
        "yaxis": log_axis("cost", 0.7 * min(ys), 1.4 * max(ys)),
    }
