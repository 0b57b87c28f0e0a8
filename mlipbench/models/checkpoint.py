"""The bytes of a checkpoint, checked before anything reads them."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from mlipbench.core.model import ModelSpec
from mlipbench.errors import BadInput


def read(spec: ModelSpec, *, what: str) -> bytes:
    """Return the checkpoint that a spec names.

    Args:
        spec: of the model.
        what: the kind with its article, for messages: "an ACE".

    Raises:
        BadInput: there is none, it cannot be read, or its sha256 is not the one the spec names.
    """
    if spec.checkpoint is None:
        raise BadInput(f"model {spec.name}: {what} needs a checkpoint.")
    path = Path(spec.checkpoint)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the checkpoint {path} cannot be read: {error.strerror}. Check the path.") from error
    found = sha256(content).hexdigest()
    if spec.checkpoint_sha256 not in (None, found):
        raise BadInput(
            f"the checkpoint {path} is not the one that model {spec.name} names: its sha256 is {found}, "
            f"wanted {spec.checkpoint_sha256}."
        )
    return content
