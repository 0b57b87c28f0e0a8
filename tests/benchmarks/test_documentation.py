"""Every benchmark has its section."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlipbench import benchmarks

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", benchmarks.TABLE)
def test_every_benchmark_has_its_section(name: str) -> None:
    assert f"(`{name}`)" in PAGE
