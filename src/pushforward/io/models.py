"""Model files: one .safetensors file with a JSON header. Reading one never executes anything that it holds."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from ..ensemble import Ensemble
from ..flow import Flow
from ..recipes import RECIPES
from .atomic import atomic

if TYPE_CHECKING:
    from ..tables import TableDensity

FORMAT_VERSION = 1
_KEY = "pushforward"


def save(
    flow: Flow | Ensemble | TableDensity, path: str | PathLike[str], *, schema: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Writes a model to one file, atomically: the path holds the old file or the whole new one, never a part.

    A flow from a recipe (`real_nvp`, ...) is rebuilt by `load` alone, and so is the `TableDensity` of a table. A flow
    that was composed by hand is saved as weights, and `load(path, into=...)` puts them into the same composition.

    Args:
        flow: any flow or ensemble, or the density of a table.
        path: usually *.safetensors.
        schema: JSON-able facts about the data, such as {"columns": [...]}; by default what the flow was loaded with.
            A `TableDensity` has its own.
        training: a JSON-able summary of the training, such as `Fit.summary`; by default what it was loaded with.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
        ValueError: schema or training are not JSON-able.
    """
    table = None if isinstance(flow, (Flow, Ensemble)) else flow.to_json()
    if table is not None and schema is not None:
        raise ValueError("the density of a table is saved with its own schema: give none")
    members = len(flow) if isinstance(flow, Ensemble) else 1 if table is None else table["members"]
    header = {
        "format_version": FORMAT_VERSION,
        "recipe": flow.recipe if isinstance(flow, (Flow, Ensemble)) else table["recipe"] if table else None,
        **({"members": members} if members > 1 or isinstance(flow, Ensemble) else {}),
        **({} if table is None else {"table": table["table"]}),
        "schema": table["schema"] if table else getattr(flow, "schema", None) if schema is None else dict(schema),
        "training": getattr(flow, "training_summary", None) if training is None else dict(training),
        "versions": {"pushforward": version("pushforward"), "torch": str(torch.__version__)},
    }
    write_tensors(path, {k: v.detach() for k, v in flow.state_dict().items()}, header)


def load(path: str | PathLike[str], *, into: Flow | Ensemble | None = None, device: str | torch.device = "cpu") -> Any:
    """Reads a `Flow` from a file, or an `Ensemble` or a `TableDensity`, whichever was saved.

    It has the attributes `schema` and `training_summary` as they were saved (a flow perhaps None).

    The recipe is looked up by name among our own and each of its arguments, and the name and shape of each tensor, are
    checked against it. Nothing in the file is executed.

    Args:
        path: a file that `save` wrote.
        into: a flow to take the weights, for one that was composed by hand; None rebuilds it from its recipe.
        device: where to put it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, is no pushforward model, or does not fit `into`.

    Example:
        >>> import tempfile, pathlib
        >>> from pushforward import real_nvp
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save(real_nvp(2, depth=2), path, schema={"columns": ["a", "b"]})
        >>> load(path).schema
        {'columns': ['a', 'b']}
    """
    header, tensors = read_tensors(path)
    schema, training = (_object(path, header, name) for name in ("schema", "training"))
    recipe, table = _object(path, header, "recipe"), _object(path, header, "table")
    rebuilt = into is None
    flow: Any = into
    if table is not None:
        from ..tables.saved import rebuild  # a table's density is the one model that needs more than a flow

        if into is not None:
            raise ValueError(f"{path} holds the density of a table, which is rebuilt: load it without into=")
        flow = rebuild(path, table, schema, [] if recipe is None else _members(path, header, len(tensors)))
    elif into is None and "members" in header:
        flow = Ensemble(_members(path, header, len(tensors)))
    elif into is None:
        flow = _rebuild(path, recipe, len(tensors))
    _check_tensors(path, flow.state_dict(), tensors)
    # assign: a rebuilt flow has no memory of its own yet, so the tensors of the file become it.
    flow.load_state_dict(tensors, assign=rebuilt)
    if rebuilt:
        for module in flow.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_meta:  # what is not kept in files: empty markers of device and dtype
                    setattr(module, name, torch.empty(buffer.shape, device="cpu"))
        dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), None)
        flow.to(device, dtype)
    flow.training_summary = training
    if table is None:
        flow.schema = schema
    return flow


def _members(path: str | PathLike[str], header: dict[str, Any], tensors: int) -> list[Flow]:
    """As many flows of the header's recipe as it says, without memory for their weights."""
    count = header.get("members", 1)
    if type(count) is not int or not 1 <= count <= max(tensors, 1):
        raise ValueError(f"{path}: damaged header: {count!r} members, and {tensors} tensors")
    return [_rebuild(path, header["recipe"], tensors // count) for _ in range(count)]


def read_header(path: str | PathLike[str]) -> dict[str, Any]:
    """The JSON header of a model file: format_version, recipe, schema, training, versions.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or is no pushforward model.
    """
    return read_tensors(path, only_header=True)[0]


def write_tensors(path: str | PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors under a JSON header, atomically."""
    try:
        text = json.dumps(header)
    except TypeError as error:
        raise ValueError(f"the header of a model file must be JSON-able: {error}") from None
    # Views of one buffer are cut apart: a file holds each tensor by itself.
    data = serialize({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata={_KEY: text})
    with atomic(path) as part:
        part.write_bytes(data)


def read_tensors(path: str | PathLike[str], only_header: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads what `write_tensors` wrote: the header, and the tensors unless only the header is asked for.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or is none of ours.
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
    return header, tensors


def _object(path: str | PathLike[str], header: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = header.get(name)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{path}: damaged header: {name} must be an object, got {type(value).__name__}")
    return value


def _rebuild(path: str | PathLike[str], recipe: dict[str, Any] | None, tensors: int) -> Flow:
    """Builds the flow of a checked recipe without memory for its weights."""
    if recipe is None:
        raise ValueError(f"{path}: this flow was composed by hand: give load(path, into=flow) the same composition")
    name, arguments = recipe.get("name"), recipe.get("arguments")
    if not isinstance(name, str) or name not in RECIPES or not isinstance(arguments, dict):
        raise ValueError(f"{path}: unknown recipe {name!r}; this pushforward knows {', '.join(RECIPES)}")
    known = inspect.signature(RECIPES[name]).parameters
    for key, value in arguments.items():
        if key not in known:
            raise ValueError(f"{path}: the recipe {name} has no argument {key!r}")
        is_shape = isinstance(value, list) and len(value) < 10 and all(type(v) is int for v in value)
        if not (value is None or type(value) in (bool, int, float, str) or is_shape):
            raise ValueError(f"{path}: the recipe's argument {key!r} has a value of a wrong kind")
        # Each layer has a tensor at least: a depth beyond their number is damage, and would take long to build.
        if key in ("depth", "hidden_layers") and type(value) is int and value > tensors:
            raise ValueError(f"{path}: the recipe says {key} = {value}, but the file holds {tensors} tensors")
    try:
        with torch.device("meta"):
            flow = RECIPES[name](**arguments | {"seed": None})
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path}: the recipe {name} cannot be built: {error}") from None
    flow.recipe = recipe
    return flow


def _check_tensors(path: str | PathLike[str], wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        raise ValueError(f"{path} does not fit its flow: missing tensors {missing[:3]}, unexpected {extra[:3]}")
    dtypes = {t.dtype for t in found.values() if t.is_floating_point()}
    if len(dtypes) > 1:
        raise ValueError(f"{path}: tensors of several dtypes: {sorted(map(str, dtypes))}")
    for name, tensor in found.items():
        like = wanted[name]
        if tensor.shape != like.shape or tensor.is_floating_point() != like.is_floating_point():
            raise ValueError(
                f"{path}: tensor {name} must have shape {tuple(like.shape)}, got {tuple(tensor.shape)} ({tensor.dtype})"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path}: tensor {name} holds values that are not finite")
