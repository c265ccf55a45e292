"""Flows in model files: the recipe with its arguments, or the structure of one that was composed by hand."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from os import PathLike
from typing import Any

from ..density import Density, Vectors
from ..flow import Flow
from ..recipes import IMAGE_RECIPES, RECIPES
from .registry import Builder, describe, register
from .structure import difference, structure

_ALL_RECIPES = RECIPES | IMAGE_RECIPES
_MOST_COLUMNS = 100_000  # that an argument may name
_MANY = 1_000_000  # tensors, a bound for what does not come from a file
_LAYERS = ("depth", "depths", "hidden_layers", "levels", "blocks", "checkerboards")  # arguments that count some


def _flow_settings(flow: Flow) -> dict[str, Any]:
    names = flow.space.names if isinstance(flow.space, Vectors) else None
    own, recipe = structure(flow), flow.recipe
    changed = None if recipe is None else _changed(flow, recipe)
    if recipe is not None and changed is not None:
        warnings.warn(
            f"this flow is not the one that its recipe {recipe.get('name')} builds ({changed}): it is saved as one "
            "that was composed by hand, and load(path, into=flow) puts its weights into the same composition",
            stacklevel=4,
        )
        recipe = None
    settings = {"recipe": recipe, "names": None if names is None else list(names)}
    return settings if recipe is not None else settings | {"structure": own, "context_rank": flow.context_rank_found}


def _changed(flow: Flow, recipe: dict[str, Any]) -> str | None:
    """In what a flow differs from what its recipe builds, beside weights; None for nothing."""
    shapes = _shapes(flow)
    try:
        same = _build_flow({"recipe": recipe}, Builder("", _MANY, 0))
    except ValueError as error:
        return str(error)
    same.kept_apart = flow.kept_apart
    wanted = _shapes(same)
    changed = difference(structure(flow), structure(same))
    if changed is None and shapes != wanted:
        name = next(name for name in [*shapes, *wanted] if shapes.get(name) != wanted.get(name))
        return f"{name} has shape {shapes.get(name)}, not {wanted.get(name)}"
    return changed


def _shapes(flow: Flow) -> dict[str, tuple[int, ...]]:
    tensors = flow.state_dict().items()
    return {name: tuple(t.shape) for name, t in tensors if name.partition(".")[0] not in flow.kept_apart}


def is_rebuilt(description: dict[str, Any]) -> bool:
    """Whether `load` builds a described density by itself: each of its flows is what a recipe builds."""
    return all(isinstance(settings["recipe"], dict) for settings in _flow_descriptions(description))


def check_structure(path: str | PathLike[str], header: dict[str, Any], into: Density) -> None:
    """Raises ValueError where a flow inside `into` is another composition than that in the file."""
    flows = [module for module in into.modules() if isinstance(module, Flow)]
    descriptions = list(_flow_descriptions({"kind": header.get("kind"), "settings": header.get("settings")}))
    if len(flows) != len(descriptions):
        return  # their tensors differ, too
    for flow, settings in zip(flows, descriptions, strict=True):
        expected, recipe = settings.get("structure"), settings.get("recipe")
        if isinstance(recipe, dict):
            changed = _changed(flow, recipe)
        else:
            changed = difference(structure(flow), expected) if isinstance(expected, dict) else None
        if changed is not None:
            raise ValueError(f"{path} was saved from another composition than that of `into`: {changed}")


def check_same_settings(path: str | PathLike[str], header: dict[str, Any], into: Density) -> None:
    """Raises ValueError where a density that is no flow, inside `into`, has other settings than that in the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `save` is what warns of a flow that is no longer its recipe's
        own = json.loads(json.dumps(describe(into)))
    saved = {name: header.get(name) for name in ("kind", "settings")}
    other = _other_setting(saved, own, "the density")
    if other is not None:
        raise ValueError(f"{path} was saved from a density with other settings than `into`: {other}")


def _other_setting(saved: Any, own: Any, where: str) -> str | None:
    """The first setting that differs, in words; flows, and settings that one of the two lacks, are passed over."""
    if isinstance(saved, dict) and isinstance(own, dict):
        if saved.get("kind") == own.get("kind") == "flow":
            return None
        parts = [
            (saved[key], own[key], where if key == "settings" else f"{where}, {key}") for key in saved if key in own
        ]
    elif isinstance(saved, list) and isinstance(own, list) and len(saved) == len(own):
        parts = [(a, b, f"{where} {k}") for k, (a, b) in enumerate(zip(saved, own, strict=True))]
    else:
        return None if saved == own else f"{where} is {saved!r:.80} in the file and {own!r:.80} in `into`"
    return next((other for part in parts if (other := _other_setting(*part)) is not None), None)


def note_context_ranks(header: dict[str, Any], into: Density) -> None:
    """Sets how many axes one context of each flow inside `into` has, where the file has it."""
    flows = [module for module in into.modules() if isinstance(module, Flow)]
    descriptions = _flow_descriptions({"kind": header.get("kind"), "settings": header.get("settings")})
    for flow, settings in zip(flows, descriptions, strict=False):
        if type(rank := settings.get("context_rank")) is int:
            flow.note_rank(rank)


def _flow_descriptions(description: Any) -> Iterator[dict[str, Any]]:
    """The settings of the flows in the description of a density, in order."""
    if isinstance(description, list):
        for part in description:
            yield from _flow_descriptions(part)
    elif isinstance(description, dict) and isinstance(description.get("settings"), dict):
        if description.get("kind") == "flow":
            yield description["settings"]
        for part in description["settings"].values():
            yield from _flow_descriptions(part)


def _build_flow(settings: dict[str, Any], builder: Builder) -> Flow:
    recipe, names = settings.get("recipe"), settings.get("names")
    if not isinstance(recipe, dict):
        raise ValueError("this flow was composed by hand: give load(path, into=flow) the same composition")
    name, arguments = recipe.get("name"), recipe.get("arguments")
    if not isinstance(name, str) or name not in _ALL_RECIPES or not isinstance(arguments, dict):
        raise ValueError(f"unknown recipe {name!r}; this pushforward knows {', '.join(_ALL_RECIPES)}")
    known = inspect.signature(_ALL_RECIPES[name]).parameters
    for key, value in arguments.items():
        if key not in known:
            raise ValueError(f"the recipe {name} has no argument {key!r}")
        is_shape = isinstance(value, list) and len(value) <= _MOST_COLUMNS and all(type(v) is int for v in value)
        if not (value is None or type(value) in (bool, int, float, str) or is_shape):
            raise ValueError(f"the recipe's argument {key!r} has a value of a wrong kind")
        # Each layer has a tensor at least: a depth beyond their number is damage, and would take long to build.
        sizes = [size for size in (value if isinstance(value, list) else [value]) if type(size) is int]
        if key in _LAYERS and sum(sizes) > builder.tensors:
            raise ValueError(f"the recipe says {key} = {value}, but the file holds {builder.tensors} tensors")
    try:
        flow = _ALL_RECIPES[name](**arguments | {"seed": builder.seed})
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"the recipe {name} cannot be built: {error}") from None
    flow.recipe = recipe
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len(names) != flow.shape[0]:
            raise ValueError(f"expected the names of {flow.shape[0]} columns, got {names!r}")
        flow.space = Vectors(names)
    return flow


register("flow", Flow, _flow_settings, _build_flow)
