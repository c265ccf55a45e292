"""Model files: one .safetensors file with a JSON header, for every kind of density. Reading one never executes it.

The header names the kind of the density and its settings, from which the density is built; the tensors are its
`state_dict`. A module that defines a kind of density calls
`registry.register`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from ..arguments import as_device
from ..density import Density
from . import simple  # noqa: F401  registers simple densities and mixtures
from .flows import check_same_settings, check_structure, is_rebuilt, note_context_ranks
from .registry import Builder, describe
from .tensors import FORMAT_VERSION, read_tensors, write_tensors
from .upgrade import upgraded

Path_ = str | PathLike[str]


def save(
    density: Density,
    path: Path_,
    *,
    training: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes a density to one file, atomically: the path holds the old file or the whole new one, never a part.

    `load` rebuilds it. A flow that was composed by hand, or whose base, layers, networks or `embed` are no longer those
    of its recipe, is saved as weights beside a description of its parts, and `load(path, into=...)` puts them into the
    same composition.

    Args:
        density: a flow, a mixture, the density of a table, ...
        path: usually *.safetensors.
        training: a JSON-able summary of the training, such as `Fit.summary`; by default `density.training_summary`.
        about: JSON-able facts about the data; by default `density.about`.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
        ValueError: training or about are not JSON-able, the class of the density is not known to files, or its tensors
            are such as no file may hold: not finite, or of several dtypes.
    """
    description = json.loads(json.dumps(describe(density)))
    header = {
        "format_version": FORMAT_VERSION,
        **description,
        "training": density.training_summary if training is None else dict(training),
        "about": density.about if about is None else dict(about),
        "versions": {"pushforward": version("pushforward"), "torch": str(torch.__version__)},
    }
    tensors = {name: tensor.detach() for name, tensor in density.state_dict().items()}
    wanted = tensors
    if is_rebuilt(description):
        with torch.device("meta"):
            wanted = _built(path, description, tensors, None).state_dict()
    _check_tensors(path, wanted, tensors)  # what `load` would refuse is not written
    write_tensors(path, tensors, header)


def load(path: Path_, *, into: Density | None = None, device: str | torch.device = "cpu") -> Any:
    """Reads the density that was saved to a file, with the `training_summary` and `about` that it had, for evaluation.

    Each setting, and the name and shape of each tensor, is checked. Nothing in the file is executed.

    Args:
        path: a file that `save` wrote, of this version or an older one.
        into: a density to take the weights, for one that was composed by hand; None rebuilds it.
        device: where to put it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, is no pushforward model, or does not fit `into`, by its tensors, its parts or their
            settings; there is no such device.

    Example:
        >>> import tempfile, pathlib
        >>> from pushforward import real_nvp
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save(real_nvp(2, depth=2), path, training={"steps": 0})
        >>> load(path).training_summary
        {'steps': 0}
    """
    header, tensors = _upgraded(path)
    for name in ("training", "about"):
        if header.get(name) is not None and not isinstance(header[name], dict):
            raise ValueError(f"{path}: damaged header: {name} must be an object, got {type(header[name]).__name__}")
    density: Any = into
    if into is None:
        with torch.device("meta"):  # its size is checked before any memory is taken
            _check_tensors(path, _built(path, header, tensors, None).state_dict(), tensors)
        density = _built(path, header, tensors, 0)
        # float32 stands for the dtype of the model, which is the file's; what is kept in another dtype stays in it.
        dtypes = {name: t.dtype for name, t in density.state_dict().items()}
        tensors = {n: t if dtypes[n] == torch.float32 else t.to(dtypes[n]) for n, t in tensors.items()}
        of_model = [t.dtype for n, t in tensors.items() if dtypes[n] == torch.float32]
        if of_model:
            density.to(of_model[0])
        density.load_state_dict(tensors, assign=True)
    else:
        _check_tensors(path, density.state_dict(), tensors)
        check_structure(path, header, density)
        check_same_settings(path, header, density)
        density.load_state_dict(tensors)
        note_context_ranks(header, density)
    density.training_summary, density.about = header.get("training"), header.get("about")
    # For evaluation, for batch normalisation would move in training mode.
    return density.to(as_device(device)).eval() if into is None else density


def _upgraded(path: Path_, only_header: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
    header, tensors = read_tensors(path, only_header)
    if "setup" in header and "counters" in header:
        raise ValueError(f"{path} is the checkpoint of a training, not a model: save(density, path) writes models")
    try:
        return upgraded(header, tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _built(path: Path_, header: dict[str, Any], tensors: Mapping[str, Tensor], seed: int | None) -> Density:
    try:
        return Builder(path, len(tensors), seed).build(header)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path}: damaged header: {' '.join(str(error).split())}") from None


def read_header(path: Path_) -> dict[str, Any]:
    """The JSON header of a model file: format_version, kind, settings, training, versions.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or is no pushforward model.
    """
    return _upgraded(path, only_header=True)[0]


def _check_tensors(path: str | PathLike[str], wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        raise ValueError(f"{path} does not fit its flow: missing tensors {missing[:3]}, unexpected {extra[:3]}")
    kept_double = {name for name, t in wanted.items() if t.dtype == torch.float64}  # whatever the model's dtype is
    dtypes = {t.dtype for name, t in tensors.items() if t.is_floating_point() and name not in kept_double}
    if len(dtypes) > 1:
        raise ValueError(f"{path}: tensors of several dtypes: {sorted(map(str, dtypes))}")
    for name, tensor in tensors.items():
        like = wanted[name]
        if tensor.shape != like.shape or tensor.is_floating_point() != like.is_floating_point():
            raise ValueError(
                f"{path}: tensor {name} must have shape {tuple(like.shape)}, got {tuple(tensor.shape)} ({tensor.dtype})"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path}: tensor {name} holds values that are not finite")
