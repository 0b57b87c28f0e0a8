"""Data and context that the benchmarks' tests share."""

from __future__ import annotations

import pytest
from pair_model import labelled

from mlipbench.core.benchmark import Context, no_progress
from mlipbench.core.dataset import Dataset


@pytest.fixture(scope="session")
def data() -> Dataset:
    return labelled(["molecule", "cluster", "liquid", "atom"])


@pytest.fixture
def context() -> Context:
    return Context(seed=0, device="cpu", progress=no_progress)
