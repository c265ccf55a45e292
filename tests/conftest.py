"""Settings of the whole suite."""

import pytest
import torch


@pytest.fixture(autouse=True)
def same_start() -> None:
    """Each test starts from the same global generator."""
    torch.manual_seed(0)
