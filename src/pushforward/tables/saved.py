"""The density of a table in model files: its settings, and how it is built from them, each field checked."""

from __future__ import annotations

from typing import Any, cast

from ..flow import Flow
from ..io.models import Builder, describe, register
from .density import TableDensity
from .encoding import Layout, one_or_several, with_embedding
from .mass import MassFunction
from .schema import Schema

_MOST_UNITS = 1_000_000


def _settings(density: TableDensity) -> dict[str, Any]:
    return {
        "schema": density.schema.to_json(),
        "given": list(density.given),
        "mass_width": None if density.mass is None else density.mass.width,
        "flow": None if density.flow is None else describe(density.flow),
    }


def _build(settings: dict[str, Any], builder: Builder) -> TableDensity:
    given, width, flow = settings.get("given"), settings.get("mass_width"), settings.get("flow")
    if not isinstance(given, list) or not all(isinstance(g, str) for g in given) or len(set(given)) != len(given):
        raise ValueError("given must be a list of column names")
    if width is not None and (type(width) is not int or not 1 <= width <= _MOST_UNITS):
        raise ValueError(f"bad mass_width {width!r}")
    schema = Schema.from_json(settings.get("schema"))
    layout = Layout(schema, given)
    flows = [] if flow is None else cast(list[Flow], builder.build(flow).members)
    embed_given, embed_all = layout.embedders()
    wanted = 0 if embed_all is None else embed_all.features_out
    for member in flows:
        if member.context_dim != wanted:
            raise ValueError(
                f"the flow takes a context of width {member.context_dim}, the schema gives one of {wanted}"
            )
        with_embedding(member, layout.embedders()[1])
    mass = MassFunction(layout.sizes, embed_given, width=width, seed=builder.seed) if layout.sizes else None
    return TableDensity(schema, given, mass, one_or_several(flows))


register("table", TableDensity, _settings, _build)
