"""TOML files become frozen dataclasses, and what does not fit is said in one sentence."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from mlipbench.errors import BadInput

T = TypeVar("T")
SCHEMA = 1
UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names for it


def read(path: Path) -> dict[str, Any]:
    """Read a TOML file and check its schema number.

    Raises:
        BadInput: the file is missing, is no TOML, or is of a later schema.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid TOML: {error}.") from error
    schema = found.pop("schema", None)
    if schema != SCHEMA:
        raise BadInput(
            f"{path}: schema = {schema!r}; this version of mlipbench reads schema = {SCHEMA}. "
            + ("Add that line at the top." if schema is None else "Update mlipbench or use an older file.")
        )
    return found


def build(kind: type[T], content: Mapping[str, Any], *, where: str) -> T:
    """Make a frozen dataclass of plain values; unknown keys are refused.

    Args:
        kind: the dataclass.
        content: plain values, as read from TOML or JSON.
        where: file, put in front of the sentence.

    Raises:
        BadInput: a key is unknown or missing, or a value is of the wrong type.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    adapter = TypeAdapter(_closed(kind, ConfigDict(extra="forbid", arbitrary_types_allowed=True)))
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        # A misspelt key also leaves its right spelling missing: the misspelling is what to name.
        problems = sorted(error.errors(), key=lambda problem: problem["type"] not in UNKNOWN_KEY)
        raise BadInput(f"{where}{_sentence(kind, content, problems[0])}") from error


def _closed(kind: type[T], config: Any) -> type[T]:
    """Tell pydantic to refuse unknown keys in this dataclass and in all it holds."""
    todo, seen = [kind], set()
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        if is_dataclass(one):
            if "__pydantic_config__" not in vars(one):
                setattr(one, "__pydantic_config__", config)  # noqa: B010  pydantic looks for it; no type knows it
            hints = _hints(one)
            todo += [hints[field.name] for field in fields(one)]
        todo += [argument for argument in get_args(one) if not isinstance(argument, (str, int, float))]
    return kind


def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass' fields, with strings resolved."""
    from typing import get_type_hints

    return get_type_hints(kind)


def _sentence(kind: type, content: Mapping[str, Any], problem: Any) -> str:
    """Say the first problem pydantic found in our words."""
    steps = [str(step) for step in problem["loc"]]
    row = _row_name(content, problem["loc"])
    place = f"{row}: " if row else ": "
    key = ".".join(step for step in steps if not step.isdigit())
    if problem["type"] in UNKNOWN_KEY:
        allowed = _allowed(kind, problem["loc"][:-1])
        near = difflib.get_close_matches(steps[-1], allowed, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"{place}unknown key '{steps[-1]}'.{hint} Allowed: {', '.join(allowed)}."
    if problem["type"] in ("missing", "missing_argument"):
        return f"{place}the key '{key}' is missing."
    return f"{place}{key} = {problem['input']!r} does not fit: {problem['msg'].lower()}."


def _row_name(content: Mapping[str, Any], loc: tuple[Any, ...]) -> str:
    """Name the row or the file entry a problem stands in."""
    if len(loc) < 2 or not isinstance(loc[1], int):
        return ""
    try:
        entry = content[loc[0]][loc[1]]
    except (KeyError, IndexError, TypeError):
        return ""
    name = entry.get("name") or entry.get("path") if isinstance(entry, Mapping) else None
    return f", {str(loc[0]).rstrip('s')} '{name}'" if name else f", {loc[0]} number {loc[1] + 1}"


def _allowed(kind: Any, loc: tuple[Any, ...]) -> list[str]:
    """Return the keys allowed at a place inside nested dataclasses."""
    for step in loc:
        if isinstance(step, int) or not is_dataclass(kind):
            continue
        inside = [kind_of for kind_of in _flatten(_hints(kind)[step]) if is_dataclass(kind_of)]  # type: ignore[arg-type]
        kind = inside[0] if inside else kind
    return sorted(field.name for field in fields(kind))


def _flatten(hint: Any) -> list[Any]:
    """Return a type and all it is made of."""
    found = [hint]
    for argument in get_args(hint):
        found += _flatten(argument)
    return found
