"""Tensors under a JSON header in one .safetensors file: what model files and checkpoints are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from .atomic import atomic

FORMAT_VERSION = 2
_KEY, _CHECKSUM = "pushforward", "checksum"


def write_tensors(path: str | PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors under a JSON header with a checksum of both, atomically."""
    # What shares memory is cut apart: a file holds each tensor by itself.
    alone = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    try:
        header = dict(header) | {_CHECKSUM: _checksum(header, alone)}
        data = serialize(alone, metadata={_KEY: json.dumps(header)})
    except TypeError as error:
        raise ValueError(f"the header of a model file must be JSON-able: {error}") from None
    with atomic(path) as part:
        part.write_bytes(data)


def read_tensors(path: str | PathLike[str], only_header: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads what `write_tensors` wrote: the header, and the tensors unless only the header is asked for.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or is none of ours. Files of before have no checksum, and are taken as they are.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a model file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = [] if only_header else file.keys()
            # Copied: products differ in their last bits where memory is not aligned as torch aligns it, and the file
            # may be replaced while the model lives.
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or is no .safetensors file: {error}") from None
    try:
        header = json.loads(metadata[_KEY])
    except KeyError:
        raise ValueError(f"{path} is a .safetensors file, but no pushforward model: it has no header of ours") from None
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"{path}: damaged header") from None
    if not isinstance(header, dict) or not isinstance(header.get("format_version"), int):
        raise ValueError(f"{path}: damaged header: no format_version")
    if header["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {header['format_version']}, this pushforward reads up to {FORMAT_VERSION}: "
            "please upgrade"
        )
    checksum = header.pop(_CHECKSUM, None)
    if checksum is not None and not only_header and checksum != _checksum(header, tensors):
        raise ValueError(f"{path} is damaged: it does not hold what was written, by its checksum")
    return header, tensors


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a header without its checksum and of tensors: their names, dtypes, shapes and bytes."""
    known = {name: value for name, value in header.items() if name != _CHECKSUM}
    digest = hashlib.sha256(json.dumps(json.loads(json.dumps(known)), sort_keys=True).encode())
    for name, t in sorted(tensors.items()):
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
