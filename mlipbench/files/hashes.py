"""Is this the file, and is this the job?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlipbench.errors import BadInput

ID_LENGTH = 20


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hex.

    Raises:
        BadInput: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from error


def canonical_id(content: Mapping[str, Any]) -> str:
    """Return a short hash of plain JSON values that does not depend on the order of keys.

    >>> canonical_id({"a": 1, "b": [2]}) == canonical_id({"b": (2,), "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
