"""Model files: one .safetensors file with a JSON header, for every kind of density. Reading one never executes it.

The header names the kind of the density and its settings, from which the density is built; the tensors are its
`state_dict`. A module that defines a kind of density calls `register`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..baselines import Baseline, Frequencies, GaussianMixtureDensity, Independent, LatentClasses, MixedKernel
from ..density import Density, Vectors
from ..flow import Flow
from ..mixture import Mixture
from ..recipes import RECIPES
from .structure import difference, structure
from .tensors import FORMAT_VERSION, read_tensors, write_tensors
from .upgrade import upgraded

Path_ = str | PathLike[str]
D = TypeVar("D", bound=Density)
_MANY = 1_000_000  # tensors, a bound for what does not come from a file


@dataclass(frozen=True)
class Builder:
    """Builds densities from the settings of a file.

    Attributes:
        path: of the file, for messages.
        tensors: how many the file holds.
        seed: of initial weights, which the file's own replace.
    """

    path: Path_
    tensors: int
    seed: int | None

    def build(self, description: Any) -> Density:
        """The density of {"kind": ..., "settings": ...}.

        Raises:
            ValueError: the kind is unknown, or a setting is missing, of a wrong kind or contradicts another.
        """
        kind = description.get("kind") if isinstance(description, dict) else None
        settings = description.get("settings") if isinstance(description, dict) else None
        if not isinstance(kind, str) or kind not in _KINDS or not isinstance(settings, dict):
            raise ValueError(f"unknown kind of density {kind!r}; this pushforward knows {', '.join(_KINDS)}")
        return _KINDS[kind].build(settings, self)


class _Kind(NamedTuple):
    cls: type[Density]
    settings: Callable[[Any], dict[str, Any]]
    build: Callable[[dict[str, Any], Builder], Density]


_KINDS: dict[str, _Kind] = {}


def register(
    kind: str,
    cls: type[D],
    settings: Callable[[D], dict[str, Any]],
    build: Callable[[dict[str, Any], Builder], D],
) -> None:
    """Makes a kind of density one that `save` writes and `load` reads.

    Args:
        kind: its name in files.
        cls: its class.
        settings: JSON-able settings of a density, all that `build` needs beside the tensors of its `state_dict`.
        build: the inverse, with weights of any value. Each setting is checked: a file may hold anything.
    """
    _KINDS[kind] = _Kind(cls, settings, build)


def describe(density: Density) -> dict[str, Any]:
    """The kind and the settings of a density, JSON-able: the inverse of `Builder.build`.

    Raises:
        ValueError: its class is not registered.
    """
    for name, kind in _KINDS.items():
        if type(density) is kind.cls:
            return {"kind": name, "settings": kind.settings(density)}
    raise ValueError(f"{type(density).__name__} cannot be saved: its class was not made known by io.models.register")


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
        ValueError: training or about are not JSON-able, or the class of the density is not known to files.
    """
    header = {
        "format_version": FORMAT_VERSION,
        **describe(density),
        "training": density.training_summary if training is None else dict(training),
        "about": density.about if about is None else dict(about),
        "versions": {"pushforward": version("pushforward"), "torch": str(torch.__version__)},
    }
    write_tensors(path, {name: tensor.detach() for name, tensor in density.state_dict().items()}, header)


def load(path: Path_, *, into: Density | None = None, device: str | torch.device = "cpu") -> Any:
    """Reads the density that was saved to a file, with the `training_summary` and `about` that it had.

    Each setting, and the name and shape of each tensor, is checked. Nothing in the file is executed.

    Args:
        path: a file that `save` wrote, of this version or an older one.
        into: a density to take the weights, for one that was composed by hand; None rebuilds it.
        device: where to put it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, is no pushforward model, or does not fit `into`, by its tensors or by its parts.

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
        _check_structure(path, header, density)
        density.load_state_dict(tensors)
    density.training_summary, density.about = header.get("training"), header.get("about")
    return density.to(device) if into is None else density


def _upgraded(path: Path_, only_header: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
    header, tensors = read_tensors(path, only_header)
    try:
        return upgraded(header, tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _built(path: Path_, header: dict[str, Any], tensors: Mapping[str, Tensor], seed: int | None) -> Density:
    try:
        return Builder(path, len(tensors), seed).build(header)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path}: damaged header: {' '.join(str(error).split())}") from None


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
    return settings if recipe is not None else settings | {"structure": own}


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


def _check_structure(path: Path_, header: dict[str, Any], into: Density) -> None:
    """Raises ValueError where a flow inside `into` is another composition than that in the file."""
    flows = [module for module in into.modules() if isinstance(module, Flow)]
    told = list(_flow_descriptions({"kind": header.get("kind"), "settings": header.get("settings")}))
    if len(flows) != len(told):
        return  # their tensors differ, too
    for flow, settings in zip(flows, told, strict=True):
        expected, recipe = settings.get("structure"), settings.get("recipe")
        if isinstance(recipe, dict):
            changed = _changed(flow, recipe)
        else:
            changed = difference(structure(flow), expected) if isinstance(expected, dict) else None
        if changed is not None:
            raise ValueError(f"{path} was saved from another composition than that of `into`: {changed}")


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
    if not isinstance(name, str) or name not in RECIPES or not isinstance(arguments, dict):
        raise ValueError(f"unknown recipe {name!r}; this pushforward knows {', '.join(RECIPES)}")
    known = inspect.signature(RECIPES[name]).parameters
    for key, value in arguments.items():
        if key not in known:
            raise ValueError(f"the recipe {name} has no argument {key!r}")
        is_shape = isinstance(value, list) and len(value) < 10 and all(type(v) is int for v in value)
        if not (value is None or type(value) in (bool, int, float, str) or is_shape):
            raise ValueError(f"the recipe's argument {key!r} has a value of a wrong kind")
        # Each layer has a tensor at least: a depth beyond their number is damage, and would take long to build.
        if key in ("depth", "hidden_layers") and type(value) is int and value > builder.tensors:
            raise ValueError(f"the recipe says {key} = {value}, but the file holds {builder.tensors} tensors")
    try:
        flow = RECIPES[name](**arguments | {"seed": builder.seed})
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"the recipe {name} cannot be built: {error}") from None
    flow.recipe = recipe
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len(names) != flow.shape[0]:
            raise ValueError(f"expected the names of {flow.shape[0]} columns, got {names!r}")
        flow.space = Vectors(names)
    return flow


def _build_mixture(settings: dict[str, Any], builder: Builder) -> Mixture:
    parts = settings.get("densities")
    if not isinstance(parts, list) or not 1 <= len(parts) <= max(builder.tensors, 1):
        raise ValueError(f"bad list of densities for {builder.tensors} tensors")
    return Mixture([builder.build(part) for part in parts])


def _gaussian_settings(density: GaussianMixtureDensity) -> dict[str, Any]:
    components, width = density.means.shape
    shared = len(density.covariances) == 1
    settings = {"components": components, "width": width, "shared": shared, "context_dim": density.context_dim}
    return settings | {"label": density.label}


def _build_gaussian(settings: dict[str, Any], builder: Builder) -> GaussianMixtureDensity:
    k, d, context_dim = (_integer(settings, name) for name in ("components", "width", "context_dim"))
    if context_dim > d:
        raise ValueError(f"a context of {context_dim} columns does not fit into {d}")
    covariances = torch.eye(d, dtype=torch.float64).repeat(1 if settings.get("shared") else k, 1, 1)
    weights, means = torch.ones(k, dtype=torch.float64), torch.zeros(k, d, dtype=torch.float64)
    label = str(settings.get("label", ""))
    return GaussianMixtureDensity(weights, means, covariances, context_dim=context_dim, label=label)


def _build_frequencies(settings: dict[str, Any], builder: Builder) -> Frequencies:
    sizes = _sizes(settings, "sizes")
    if not sizes:
        raise ValueError("expected the numbers of states of one column at least, got none")
    return Frequencies(sizes)


def _mixed_settings(density: LatentClasses | MixedKernel) -> dict[str, Any]:
    return {
        "sizes": list(density.sizes), "numbers": density.numbers, "context_sizes": list(density.context_sizes),
        "context_numbers": density.context_numbers, "components": len(density.weights),
    }  # fmt: skip


def _classes_settings(density: LatentClasses) -> dict[str, Any]:
    return _mixed_settings(density) | {"full": density.covariances.ndim == 3, "label": density.label}


def _build_classes(settings: dict[str, Any], builder: Builder) -> LatentClasses:
    sizes, given, k, own, context_numbers = _mixed(settings)
    d = own + context_numbers
    zeros, ones = torch.zeros(k, d, dtype=torch.float64), torch.ones(k, dtype=torch.float64)
    covariances = torch.eye(d, dtype=torch.float64).repeat(k, 1, 1) if settings.get("full") else zeros + 1
    log_mass = torch.zeros(sum(sizes) + sum(given), k, dtype=torch.float64)
    return LatentClasses(
        sizes, ones, log_mass, zeros, covariances, context_sizes=given, context_numbers=context_numbers,
        label=str(settings.get("label", "")),
    )  # fmt: skip


def _kernel_settings(density: MixedKernel) -> dict[str, Any]:
    return _mixed_settings(density) | {"bandwidth": density.bandwidth, "share": density.share}


def _build_kernel(settings: dict[str, Any], builder: Builder) -> MixedKernel:
    sizes, given, n, own, context_numbers = _mixed(settings)
    bandwidth, share = settings.get("bandwidth"), settings.get("share")
    if not isinstance(bandwidth, float) or not isinstance(share, float) or not 0 < share < 1 or not bandwidth > 0:
        raise ValueError(f"expected a bandwidth above 0 and a share within 0 and 1, got {bandwidth!r}, {share!r}")
    numbers = torch.zeros(n, own + context_numbers, dtype=torch.float64)
    states = torch.zeros(n, len(sizes) + len(given), dtype=torch.int64)
    log_mass = torch.zeros(sum(sizes) + sum(given), dtype=torch.float64)
    return MixedKernel(
        sizes, states, numbers, numbers == 0, log_mass, numbers.sum(0), numbers.sum(0) + 1, bandwidth=bandwidth,
        share=share, context_sizes=given, context_numbers=context_numbers,
    )  # fmt: skip


def _mixed(settings: dict[str, Any]) -> tuple[list[int], list[int], int, int, int]:
    """-> sizes, sizes of the context, components, numbers, numbers of the context."""
    sizes, given = _sizes(settings, "sizes"), _sizes(settings, "context_sizes")
    k, own, context_numbers = (_integer(settings, name) for name in ("components", "numbers", "context_numbers"))
    if k == 0 or len(sizes) + own == 0:
        raise ValueError(f"expected a component and a column at least, got {k} and {len(sizes) + own}")
    return sizes, given, k, own, context_numbers


def _sizes(settings: dict[str, Any], name: str) -> list[int]:
    sizes = settings.get(name)
    if not isinstance(sizes, list) or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"expected the numbers of states, got {sizes!r}")
    return sizes


def _build_independent(settings: dict[str, Any], builder: Builder) -> Independent:
    parts = settings.get("densities")
    if not isinstance(parts, list) or not 1 <= len(parts) <= max(builder.tensors, 1):
        raise ValueError(f"bad list of densities for {builder.tensors} tensors")
    densities = [density for part in parts if isinstance(density := builder.build(part), Baseline)]
    if len(densities) < len(parts):
        raise ValueError("only simple densities are parts of independent ones")
    return Independent(densities, str(settings.get("label", "")))


def _integer(settings: dict[str, Any], name: str) -> int:
    value = settings.get(name)
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")
    return value


register("flow", Flow, _flow_settings, _build_flow)
register("mixture", Mixture, lambda mixture: {"densities": [describe(d) for d in mixture]}, _build_mixture)
register("frequencies", Frequencies, lambda density: {"sizes": list(density.sizes)}, _build_frequencies)
register("gaussian_mixture", GaussianMixtureDensity, _gaussian_settings, _build_gaussian)
register("latent_classes", LatentClasses, _classes_settings, _build_classes)
register("mixed_kernel", MixedKernel, _kernel_settings, _build_kernel)
register(
    "independent",
    Independent,
    lambda density: {"densities": [describe(d) for d in density.parts], "label": density.label},
    _build_independent,
)


def read_header(path: Path_) -> dict[str, Any]:
    """The JSON header of a model file: format_version, kind, settings, training, versions.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or is no pushforward model.
    """
    return _upgraded(path, only_header=True)[0]


def _check_tensors(path: str | PathLike[str], wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        raise ValueError(f"{path} does not fit its flow: missing tensors {missing[:3]}, unexpected {extra[:3]}")
    kept_double = {name for name, t in wanted.items() if t.dtype == torch.float64}  # whatever the model's dtype is
    dtypes = {t.dtype for name, t in found.items() if t.is_floating_point() and name not in kept_double}
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
