"""What a flow is beside the tensors of its `state_dict`, so that a file does not load as another density."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform

_OURS = ("pushforward", "torch")
# What is not of the density, or kept elsewhere in a file.
_NO_MATTER = {"recipe", "rounding", "space", "training_summary", "about", "training", "kept_apart"}
_DEPTH = 8

Structure = dict[str, dict[str, str]]


def structure(flow: nn.Module) -> Structure:
    """Each module's name -> its class and its public settings, as texts; equal for flows that differ in weights alone.

    Of a class that is not of pushforward or torch, numbers and collections are left out: they may be counters.
    """
    parts = {name: _settings(module) for name, module in flow.named_modules()}
    for apart in getattr(flow, "kept_apart", ()):
        parts[""].pop(apart, None)
        parts = {name: part for name, part in parts.items() if name.partition(".")[0] != apart}
    return parts


def difference(one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]) -> str | None:
    """The first difference of two structures in words, such as "base.shape is (2), not (3)"; None where there is none.

    Settings that only one of them has are passed over: another version may have more.
    """
    for name in [*one, *(name for name in other if name not in one)]:
        place = name or "the flow"
        if name not in other:
            return f"{place} is {one[name]['class']}, not there otherwise"
        if name not in one:
            return f"{place}, {other[name]['class']}, is missing"
        if one[name]["class"] != other[name]["class"]:
            return f"{place} is {one[name]['class']}, not {other[name]['class']}"
        for key, value in one[name].items():
            if key in other[name] and other[name][key] != value:
                return f"{f'{name}.{key}' if name else key} is {value}, not {other[name][key]}"
    return None


def _settings(module: nn.Module) -> dict[str, str]:
    values = {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in _NO_MATTER}
    values |= {key: module._buffers[key] for key in module._non_persistent_buffers_set if not key.startswith("_")}
    if type(module).__module__.partition(".")[0] not in _OURS:
        values = {k: v for k, v in values.items() if v is None or isinstance(v, bool | float | str) or callable(v)}
    values |= {"hooks": [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]}
    return {"class": type(module).__name__} | {key: _text(value) for key, value in sorted(values.items())}


def _text(value: Any, depth: int = 0) -> str:
    """A value, so that equal ones give equal texts in another process and in another dtype."""
    if value is None or isinstance(value, bool | str | torch.dtype | torch.device):
        return repr(value)
    if isinstance(value, int | float):
        return f"{float(value):.9g}"
    if depth > _DEPTH:
        return type(value).__name__
    if isinstance(value, Tensor):
        return _numbers(value)
    if isinstance(value, list | tuple):
        return f"({', '.join(_text(part, depth + 1) for part in value)})"
    if isinstance(value, dict):
        return f"({', '.join(f'{key}: {_text(part, depth + 1)}' for key, part in value.items())})"
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, nn.Module):
        parts = {"structure": structure(value), "tensors": value.state_dict()}
    elif isinstance(value, Distribution | Transform):
        parts = {key: part for key, part in sorted(vars(value).items()) if isinstance(part, _PARTS)}
    else:
        return getattr(value, "__name__", type(value).__name__)
    return f"{type(value).__name__}({', '.join(f'{k}={_text(part, depth + 1)}' for k, part in parts.items())})"


_PARTS = (int, float, Tensor, list, tuple, dict, nn.Module, Distribution, Transform)


def _numbers(tensor: Tensor) -> str:
    """The shape, with the values where there are few, else with a digest of them."""
    values = tensor.detach().float().cpu().flatten() + 0.0  # there is one zero
    if math.prod(tensor.shape) <= 8:
        return f"{tuple(tensor.shape)}:{', '.join(f'{v:.6g}' for v in values.tolist())}"
    return f"{tuple(tensor.shape)}:{hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]}"
