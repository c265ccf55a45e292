"""The state of a training in a folder, so that a run that was stopped goes on bit for bit (on a CPU)."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._fast.steps.weights import FlatWeights
from ..io.tensors import read_tensors, write_tensors

ORDER = "alike"  # of the weights in the file, see `FlatWeights`


class Checkpoint:
    """Reads and writes `training.safetensors` in a folder.

    Args:
        folder: made when missing.
        setup: JSON-able settings of the run; a file with others is refused.
    """

    def __init__(self, folder: str | PathLike[str], setup: dict[str, Any]) -> None:
        self.path = Path(folder) / "training.safetensors"
        self.setup = setup
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, flow: nn.Module, held: FlatWeights, generator: torch.Generator, counters: dict[str, Any]) -> None:
        """Writes everything that the next step depends on, atomically."""
        tensors = {f"held.{k}": v for k, v in held.state().items()}
        tensors |= {f"buffer.{k}": v for k, v in flow.named_buffers()}
        tensors["generator"] = generator.get_state()
        write_tensors(
            self.path, tensors, {"format_version": 1, "order": ORDER, "setup": self.setup, "counters": counters}
        )

    def read(self, flow: nn.Module, held: FlatWeights, generator: torch.Generator) -> dict[str, Any] | None:
        """Puts a written state back and returns its counters; None when nothing was written yet.

        Raises:
            ValueError: the file is of another flow, of a run with other settings, or of another version
                of pushforward.
        """
        if not self.path.exists():
            return None
        header, tensors = read_tensors(self.path)
        if header.get("order") != ORDER:
            raise ValueError(f"{self.path} is of another version of pushforward: begin again in another folder")
        if header.get("setup") != self.setup:
            raise ValueError(f"{self.path} is of a run with other settings: {header.get('setup')}, now {self.setup}")
        buffers = dict(flow.named_buffers())
        shapes = {f"buffer.{k}": v.shape for k, v in buffers.items()} | {"held.flat": held.flat.shape}
        if any(name not in tensors or tensors[name].shape != shape for name, shape in shapes.items()):
            raise ValueError(f"{self.path} is of another flow")
        for name, buffer in buffers.items():
            buffer.copy_(tensors[f"buffer.{name}"])
        held.restore({k.removeprefix("held."): v for k, v in tensors.items() if k.startswith("held.")})
        generator.set_state(tensors["generator"])
        return header["counters"]
