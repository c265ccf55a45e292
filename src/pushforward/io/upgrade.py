"""Headers and tensors of older files, in the form of the present version. The layout of each tensor stays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..bijections.fold import NO_END
from ..bijections.precondition import straight_tails
from .upgrade_tables import layout_of, upgraded_schema

Header = dict[str, Any]
Tensors = dict[str, Tensor]


def upgraded(header: Header, tensors: Tensors) -> tuple[Header, Tensors]:
    """-> the header and the tensors of a file of any version, as one of the present version has them.

    Raises:
        ValueError: a field is missing or of a wrong kind.
    """
    header, tensors = _from_version_1(header, tensors) if header["format_version"] == 1 else (header, tensors)
    return header, _with_centred_sigmoids(_with_own_tails(tensors))


def _with_own_tails(tensors: Tensors) -> Tensors:
    """In files from before a `Precondition` had an end of its fold and tails, it had neither."""
    tensors = dict(tensors)
    for name in [name for name in tensors if name.endswith("centre")]:
        start = name.removesuffix("centre")
        if {f"{start}matrix", f"{start}initialized"} <= tensors.keys() and tensors[name].ndim == 1:
            tensors.setdefault(f"{start}fold_end", torch.full_like(tensors[name], NO_END))
            tensors.setdefault(f"{start}tail_knots", straight_tails(len(tensors[name])))
    return tensors


def _with_centred_sigmoids(tensors: Tensors) -> Tensors:
    """A first `multiscale_spline_flow` subtracted nothing of its sigmoids, and did not begin with a scale."""
    upgraded: Tensors = {}
    for name, tensor in tensors.items():
        start, inner, rest = name.partition("bijection.inner.")
        first = tensors.get(f"{start}bijection.inner.bijections.0.inner.nets.0.squash.thresholds")
        if not inner or first is None:
            upgraded[name] = tensor
            continue
        new = f"{start}bijection.bijections.1.inner.{rest}".replace(".squash.", ".sigmoids.")
        upgraded[new] = tensor
        if new.endswith(".thresholds"):
            upgraded[new.replace(".thresholds", ".means")] = torch.zeros_like(tensor)
        scale, channels = f"{start}bijection.bijections.0", first.shape[1]
        upgraded |= {f"{scale}.mean": first.new_zeros(channels), f"{scale}.std": first.new_ones(channels)}
        upgraded[f"{scale}.initialized"] = torch.tensor(True)
    return upgraded


def _from_version_1(header: Header, tensors: Tensors) -> tuple[Header, Tensors]:
    """Version 1 named the recipe of one flow, the number of members and, for a table, its facts."""
    for name in ("recipe", "table", "schema", "training"):
        if header.get(name) is not None and not isinstance(header[name], dict):
            raise ValueError(f"damaged header: {name} must be an object, got {type(header[name]).__name__}")
    table = header.get("table")
    schema = header.get("schema") or {}
    columns = schema.get("columns")
    if not (table is None and isinstance(columns, list) and all(isinstance(c, str) for c in columns)):
        columns = None
    flow = {"kind": "flow", "settings": {"recipe": header.get("recipe"), "names": columns}}
    members = header.get("members", 1)
    if "members" in header:
        if type(members) is not int or members < 1 or (tensors and members > len(tensors)):
            raise ValueError(f"damaged header: {members!r} members, and {len(tensors)} tensors")
        flow = {"kind": "mixture", "settings": {"densities": [flow] * members}}
        prefix = "flow." if table is not None else ""
        tensors = {name.replace(f"{prefix}flows.", f"{prefix}densities.", 1): t for name, t in tensors.items()}
        if tensors:
            like = next(t for t in tensors.values() if t.is_floating_point())
            tensors[f"{prefix}weights"] = torch.full((members,), 1 / members, dtype=like.dtype)
    if table is not None:
        flow, tensors = _table(table, header.get("schema"), None if header.get("recipe") is None else flow, tensors)
    training, about = header.get("training"), header.get("schema") if table is None else None
    if table is not None and training is not None and "frame" in training:  # of an estimator of mixed rows
        about = {"estimator": {"kind": training["frame"]}}
    kept = {"training": training, "versions": header.get("versions")}
    return {"format_version": 2, **flow, **kept, "about": about}, tensors


def _table(table: Header, schema: Any, flow: Any, tensors: Tensors) -> tuple[Header, Tensors]:
    """The density of a table: a mass function and a flow stood where there is an inner density of both."""
    given = table.get("given")
    inner = {**layout_of(schema, given), "mass_width": table.get("mass_width"), "flow": flow}
    settings = {"schema": upgraded_schema(schema), "given": given,
                "inner": {"kind": "states_then_numbers", "settings": inner}}  # fmt: skip
    tensors = {f"inner.{name}": tensor for name, tensor in tensors.items()}
    if "inner.mass.log_mix" in tensors:  # one for all columns
        tensors["inner.mass.log_mix"] = tensors["inner.mass.log_mix"].repeat(len(inner["sizes"]))
    whitening = tensors.pop("inner.whitening", None)
    if whitening is not None and len(whitening):
        tensors["inner.precondition.matrix"] = whitening.double()
        tensors["inner.precondition.centre"] = torch.zeros(len(whitening), dtype=torch.float64)
        tensors["inner.precondition.initialized"] = torch.tensor(True)
    return {"kind": "table", "settings": settings}, tensors
