"""How does the leaderboard become one file that opens from disk?"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, Protocol

from mlipbench.core.result import Result
from mlipbench.core.suite import ModelEntry, Suite, Tier
from mlipbench.core.view import View
from mlipbench.errors import BadInput
from mlipbench.report import sections, table
from mlipbench.report.panels import Figure

# What a script element may hold, so that no text from outside ends it or starts a comment.
_SCRIPT_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Finished(Protocol):
    """A finished job; what is large is read when asked for."""

    @property
    def result(self) -> Result:
        """The record."""

    def views(self) -> tuple[View, ...]:
        """Return what to show."""


def write(
    finished: Sequence[Finished],
    suite: Suite,
    *,
    out: Path,
    tier: Tier | None = None,
    entries: Mapping[str, ModelEntry] | None = None,
) -> Path:
    """Write `index.html`, `leaderboard.json` and `leaderboard.csv`; each replaces its predecessor whole.

    Args:
        finished: evaluations and trainings, in any order.
        suite: whose rows to show.
        out: folder; made when missing.
        tier: rows that do not run in this tier are left out; None keeps all.
        entries: what is known of models besides their results, by name; for the model cards.

    Returns:
        The path of the page.

    Raises:
        BadInput: the folder cannot be written.
    """
    board = table.leaderboard([job.result for job in finished], suite, tier=tier)
    specs = {job.result.model: ModelEntry(spec=job.result.spec) for job in finished if job.result.spec is not None}
    files = {
        "leaderboard.json": table.as_json(board),
        "leaderboard.csv": table.as_csv(board),
        "index.html": render(board, finished, tier=tier, entries={**specs, **(entries or {})}),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            replace_whole(out / name, text)
    except OSError as error:
        raise BadInput(
            f"{out}: the leaderboard cannot be written ({error.strerror or error}). Choose another folder."
        ) from error
    return out / "index.html"


def replace_whole(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it, so that nobody reads half of it."""
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def render(
    board: table.Leaderboard,
    finished: Sequence[Finished],
    *,
    tier: Tier | None = None,
    entries: Mapping[str, ModelEntry],
) -> str:
    """Return the page: tables first, so that it reads without scripts, then the data of its figures.

    The page may load nothing and run nothing but its own scripts: its content security policy names their hashes.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    script = _asset("page.js")
    jobs = {job.result.job_id: job for job in finished}
    content = sections.page(board, lambda job_id: jobs[job_id].views(), tier=tier, entries=entries)
    specs: dict[str, Any] = {}
    environment.filters["figure"] = lambda figure: _place(figure, specs)
    places = _places(board)
    environment.filters["record"] = places.__getitem__
    plotly = _plotly() if content["has_figures"] else ""
    # The figures are numbered while the page is rendered, so their data come in a second step.
    body = environment.get_template("page.html.j2").render(
        **content, style=_trusted(_asset("page.css")), policy=_policy(script, plotly)
    )
    data = "".join(
        f'<script type="application/json" id="{name}">{embed(spec)}</script>\n' for name, spec in specs.items()
    )
    library = f'<script type="text/plain" id="plotly">{plotly}</script>\n' if plotly else ""
    return f"{body}\n{data}{library}<script>{script}</script>\n</body>\n</html>\n"


def _places(board: table.Leaderboard) -> dict[tuple[str, ...], int]:
    """Return which record of `leaderboard.json` holds each number, by model, row, metric and part."""
    found = (tuple(str(record[key]) for key in ("model", "row", "metric", "part")) for record in table.records(board))
    return {key: place for place, key in enumerate(found)}


def _place(figure: Figure, specs: dict[str, Any]) -> list[dict[str, str]]:
    """Number the panels of a figure and remember their specifications."""
    out = []
    for panel in figure.panels:
        name = f"figure-{len(specs)}"
        specs[name] = panel.spec
        out.append({"id": name, "model": panel.model, "height": str(panel.spec["layout"]["height"])})
    return out


def embed(value: Any) -> str:
    r"""Return JSON that is safe inside a script element.

    >>> print(embed({"name": "</script>"}))
    {"name":"\u003c/script\u003e"}
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character, escape in _SCRIPT_ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _policy(*scripts: str) -> str:
    """Return a content security policy under which only these scripts run and nothing is loaded."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts if text]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    """Return a file that lies beside this module."""
    return resources.files("mlipbench.report").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Return plotly.js from the installed package."""
    text = resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    # The page's parser and the policy's hash must see the same text.
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script").strip()


def _trusted(text: str) -> Any:
    """Mark our own style sheet as markup."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - a file of this package
