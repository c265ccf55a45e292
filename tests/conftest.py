"""Settings of the whole suite."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import pushforward as pf
from flows import stirred

collect_ignore_glob = ["golden/*.py"]  # scripts that wrote the golden files, with the code of their time


@pytest.fixture(autouse=True)
def same_start() -> None:
    """Each test starts from the same global generator."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    """Figures that a test leaves to pyplot are closed."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch, for trainings that are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def flow() -> pf.Flow:
    """A flow of two columns on scales of their own."""
    flow = pf.real_nvp(2, depth=4, width=16, seed=0)
    pf.initialize(flow, torch.randn(500, 2) * torch.tensor([2.0, 0.5]) + torch.tensor([3.0, -1.0]))
    return stirred(flow, 0.1)


@pytest.fixture
def conditional() -> pf.Flow:
    """A flow of three columns given two others."""
    return stirred(pf.real_nvp(3, context_dim=2, depth=3, width=16, seed=0), 0.1)


# Modules that test commands have a `house`: a folder with a table and a model of it.


@pytest.fixture
def model(house: Path) -> Path:
    return house / "model.safetensors"


@pytest.fixture
def data(house: Path) -> Path:
    return house / "data.csv"
