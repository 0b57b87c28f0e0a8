"""How do frames and a manifest become the same bytes every time?"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms


def write_zipped(file: Path, frames: Sequence[Atoms]) -> None:
    """Write frames as gzipped extended XYZ, the same bytes for the same frames.

    Args:
        file: ends in `.xyz.gz`.
        frames: with their labels.
    """
    from ase.io import write

    text = io.StringIO()
    write(text, list(frames), format="extxyz")
    raw = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(text.getvalue().encode("utf-8"))
    file.write_bytes(raw.getvalue())


def write_toml(file: Path, tables: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Write tables of strings, numbers and lists of strings; their JSON is valid TOML as it stands.

    Args:
        file: the manifest.
        tables: heads, as in "[units]" (empty for the top), with their keys.
    """
    file.write_text("\n".join(_table(name, rows) for name, rows in tables), encoding="utf-8")


def _table(name: str, rows: Mapping[str, Any]) -> str:
    body = [f"{key} = {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in rows.items()]
    return "\n".join([name, *body] if name else body) + "\n"
