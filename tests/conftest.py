"""Fixtures that several layers share."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from ase.io import write
from made import MANIFEST, SUITE, labelled


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A data set of eight frames: the folder of its manifest."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    write(folder / "frames.xyz", labelled(), format="extxyz")
    (folder / "dataset.toml").write_text(MANIFEST, encoding="utf-8")
    return folder


@pytest.fixture
def tiny_suite(tiny: Path, tmp_path: Path) -> Path:
    """A suite of two rows on those frames."""
    path = tmp_path / "tinysuite.toml"
    path.write_text(SUITE.format(data=tiny / "dataset.toml"), encoding="utf-8")
    return path
