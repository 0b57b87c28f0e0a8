"""What all tests of the report share."""

from __future__ import annotations

import pytest
from made_results import Fake, three_models


@pytest.fixture
def finished() -> list[Fake]:
    """Three models with every outcome between them; see `made_results`."""
    return three_models()
