"""Which rows make a suite?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mlipbench.core.suite import POLICIES, Limit, Row, Suite, Tier
from mlipbench.errors import BadInput, unknown
from mlipbench.files import toml
from mlipbench.files.places import shared_folder

LARGEST_ERROR_RATE: Final = 0.5  # at and above it a gate tells no more than a coin


@dataclass(frozen=True, slots=True, kw_only=True)
class _SuiteFile:
    """A suite as it stands in its file; the name is the file's."""

    version: str
    about: str
    rows: tuple[Row, ...]
    models: tuple[str, ...] = ()
    training_seeds: int = 1
    failures: str = "worst"
    error_rate: float = 0.01


def suite_names() -> list[str]:
    """Return the names of the suites that come with this installation."""
    return sorted(path.stem for path in shared_folder("suites").glob("*.toml"))


def read_suite(text: str) -> Suite:
    """Read a suite by name or path.

    Raises:
        BadInput: there is none, or a key, a name or a number in it is wrong.
    """
    path = Path(text) if text.endswith(".toml") else shared_folder("suites") / f"{text}.toml"
    if not text.endswith(".toml") and not path.is_file():
        raise unknown("suite", text, suite_names())
    read = toml.build(_SuiteFile, toml.read(path), where=str(path))
    names = [row.name for row in read.rows]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{path}: two rows are called '{name}'; results could not be told apart. Rename one.")
    if not names:
        raise BadInput(f"{path}: no rows. Add at least one [[rows]] with name, benchmark and data.")
    for row in read.rows:
        _check_row(row, where=f"{path}, row '{row.name}'")
    if read.failures not in POLICIES:
        raise unknown("value of 'failures'", read.failures, POLICIES, where=str(path))
    rows = tuple(replace(row, data=_beside(row.data, path.parent)) for row in read.rows)
    suite = Suite(
        name=path.stem, version=read.version, about=read.about, rows=rows, models=read.models,
        training_seeds=read.training_seeds, failures=read.failures, error_rate=read.error_rate,
    )  # fmt: skip
    check_decisions(suite, where=str(path))
    return suite


def check_decisions(suite: Suite, *, where: str) -> None:
    """Refuse numbers of a whole suite that cannot be meant, wherever they were given.

    Raises:
        BadInput: fewer than one training seed, or an error rate that is no small chance.
    """
    if suite.training_seeds < 1:
        raise BadInput(f"{where}: training_seeds = {suite.training_seeds}, and it must be 1 or more.")
    if not 0.0 < suite.error_rate < LARGEST_ERROR_RATE:
        raise BadInput(
            f"{where}: error_rate = {suite.error_rate:g} must lie between 0 and {LARGEST_ERROR_RATE:g}; it is the "
            "chance that the gate finds an equal model worse, as in error_rate = 0.01."
        )


def _check_row(row: Row, *, where: str) -> None:
    """Refuse numbers that cannot be meant."""
    if not row.seeds:
        raise BadInput(f"{where}: 'seeds' is empty; give at least one, as in seeds = [0].")
    if row.time_limit_s <= 0:
        raise BadInput(f"{where}: time_limit_s = {row.time_limit_s:g} must be positive.")
    if row.weight < 0:
        raise BadInput(f"{where}: weight = {row.weight:g} must not be negative; 0 keeps a row out of the score.")
    for limit in row.limits:
        _check_limit(limit, where=where)


def _check_limit(limit: Limit, *, where: str) -> None:
    if limit.at_most is None and limit.at_least is None:
        raise BadInput(f"{where}: the limit on '{limit.metric}' has no bound. Give at_most or at_least.")


def _beside(data: str, folder: Path) -> str:
    """Take a path in a suite relative to the suite's own file."""
    inside = folder / data
    return str(inside.resolve()) if ("/" in data or "." in data) and inside.exists() else data


def parameters(row: Row, tier: Tier) -> dict[str, Any]:
    """Return a row's parameters with those of the tier on top."""
    return {**row.parameters, **row.tier_parameters.get(tier, {})}


def with_data(suite: Suite, data: str, splits: Mapping[str, Any]) -> Suite:
    """Return the suite with another data set in every row: its split "test" where it has one, else all frames."""
    split = "test" if "test" in splits else "all"
    return replace(suite, rows=tuple(replace(row, data=data, split=split) for row in suite.rows))
