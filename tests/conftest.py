"""Settings of the whole suite."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def global_rng_is_left_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test starts from the same global generator."""
    torch.manual_seed(0)
    yield
