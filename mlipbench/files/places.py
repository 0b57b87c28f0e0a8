"""Where do suites and reference data lie: in the wheel, or beside the source?"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def shared_folder(name: str) -> Path:
    """Return the folder "suites" or "reference_data" of this installation."""
    packed = PACKAGE / "_shared" / name
    return packed if packed.is_dir() else PACKAGE.parent / name


def default_store() -> Path:
    """Return where finished jobs go when no `--store` is given: `reports/store` under the working folder."""
    return Path("reports") / "store"
