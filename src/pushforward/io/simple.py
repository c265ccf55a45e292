"""Simple densities and mixtures in model files: their settings, and densities of any weights from these."""

from __future__ import annotations

from typing import Any

import torch

from ..baselines import Frequencies, GaussianMixtureDensity, Independent, LatentClasses, MixedKernel
from ..mixture import Mixture
from .registry import Builder, describe, register


def _build_parts(settings: dict[str, Any], builder: Builder) -> list[Any]:
    parts = settings.get("densities")
    if not isinstance(parts, list) or not 1 <= len(parts) <= max(builder.tensors, 1):
        raise ValueError(f"bad list of densities for {builder.tensors} tensors")
    return [builder.build(part) for part in parts]


def _build_mixture(settings: dict[str, Any], builder: Builder) -> Mixture:
    return Mixture(_build_parts(settings, builder))


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


def _integer(settings: dict[str, Any], name: str) -> int:
    value = settings.get(name)
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")
    return value


def _build_independent(settings: dict[str, Any], builder: Builder) -> Independent:
    return Independent(_build_parts(settings, builder), str(settings.get("label", "")))


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
