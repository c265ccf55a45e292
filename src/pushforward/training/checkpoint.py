"""The state of a training in a folder, so that a run that was stopped goes on bit for bit (on a CPU).

Exception: after many batches that are not finite, a resumed run goes back to the weights at the time of the resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..io.tensors import read_tensors, write_tensors
from .optimizer import Members

FILE = "training.safetensors"
_DIGESTS = ("data", "images_digest")  # of what a run is of, which say nothing to people
_WORDS = {"rows": "the number of rows", "images": "the number of images", "classes": "the list of classes"}
VERSION = 2  # of the file; in the first, weights had no names


class Checkpoint:
    """Reads and writes `training.safetensors` in a folder: weights and what the optimizer knows of them, by name.

    Args:
        folder: made when missing.
        setup: JSON-able settings of the run; a file with others is refused.
    """

    def __init__(self, folder: str | PathLike[str], setup: dict[str, Any]) -> None:
        self.path = Path(folder) / FILE
        self.setup = setup
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, density: nn.Module, members: Members, generator: torch.Generator, counters: dict[str, Any]) -> None:
        """Writes everything that the next step depends on, the buffers of the whole density included, atomically."""
        tensors = {f"member/{k}": t for k, t in members.state().items()}
        tensors |= {f"buffer/{k}": t for k, t in density.named_buffers()}
        tensors["generator"] = generator.get_state()
        write_tensors(self.path, tensors, {"format_version": VERSION, "setup": self.setup, "counters": counters})

    def read(self, density: nn.Module, members: Members, generator: torch.Generator) -> dict[str, Any] | None:
        """Puts a written state back and returns its counters; None when nothing was written yet.

        Raises:
            ValueError: the file is of another density, of a run with other settings, or of another version
                of pushforward.
        """
        if not self.path.exists():
            return None
        header, tensors = read_tensors(self.path)
        if header.get("format_version") != VERSION:
            raise ValueError(f"{self.path} is of another version of pushforward: begin again in another folder")
        before = header.get("setup") or {}
        if before != self.setup:
            differ = [name for name in self.setup | before if before.get(name) != self.setup.get(name)]
            changes = [
                f"{_WORDS.get(name, f'{name}=')} was {before.get(name)!r}, now {self.setup.get(name)!r}"
                for name in differ
                if name not in _DIGESTS
            ]
            changes += ["other data"] if set(differ) & set(_DIGESTS) else []
            raise ValueError(
                f"{self.path} is of a run with other settings: {'; '.join(changes)}. Give the same, or another folder "
                "as checkpoint="
            )
        buffers = dict(density.named_buffers())
        own = {f"member/{k}": t for k, t in members.state().items()} | {f"buffer/{k}": b for k, b in buffers.items()}
        if _shapes(tensors) != _shapes(own):
            raise ValueError(f"{self.path} is of another flow")
        for name, buffer in buffers.items():
            buffer.copy_(tensors[f"buffer/{name}"])
        members.restore({k.removeprefix("member/"): t for k, t in tensors.items() if k.startswith("member/")})
        generator.set_state(tensors["generator"])
        return header["counters"]


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shapes of the buffers and of the weights of members, which make the flow; not those of the optimizer."""
    return {
        name: t.shape
        for name, t in tensors.items()
        if name.startswith("buffer/") or (name.startswith("member/") and name.split("/")[2] == "weights")
    }
