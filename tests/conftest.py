"""Settings of the whole suite."""

from pathlib import Path

import pytest
import torch

collect_ignore_glob = ["golden/*.py"]  # scripts that wrote the golden files, with the code of their time


@pytest.fixture(autouse=True)
def same_start() -> None:
    """Each test starts from the same global generator."""
    torch.manual_seed(0)


# Modules that test commands have a `house`: a folder with a table and a model of it.


@pytest.fixture
def model(house: Path) -> Path:
    return house / "model.safetensors"


@pytest.fixture
def data(house: Path) -> Path:
    return house / "data.csv"
