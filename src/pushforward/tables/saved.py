"""Rebuilding the density of a table from the header of a file, each field checked."""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch

from ..flow import Flow
from .density import TableDensity
from .encoding import Layout, one_or_several, with_embedding
from .mass import MassFunction
from .schema import Schema

_MOST_UNITS = 1_000_000


def rebuild(path: str | PathLike[str], table: dict[str, Any], schema: Any, flows: list[Flow]) -> TableDensity:
    """The density of a checked header, without memory for its weights.

    Args:
        path: for messages.
        table: given and mass_width, as `TableDensity.to_json` writes them.
        schema: of `Schema.to_json`.
        flows: of the file's recipe, or none.

    Raises:
        ValueError: a field is missing, of a wrong kind, or contradicts another.
    """
    given, width = table.get("given"), table.get("mass_width")
    if not isinstance(given, list) or not all(isinstance(g, str) for g in given) or len(set(given)) != len(given):
        raise ValueError(f"{path}: damaged header: given must be a list of column names")
    if width is not None and (type(width) is not int or not 1 <= width <= _MOST_UNITS):
        raise ValueError(f"{path}: damaged header: bad mass_width {width!r}")
    try:
        parsed = Schema.from_json(schema)
        with torch.device("meta"):
            layout = Layout(parsed, given)
            of_given, of_all = layout.embedders()
            wanted = 0 if of_all is None else of_all.features_out
            for flow in flows:
                if flow.context_dim != wanted:
                    raise ValueError(
                        f"the flow takes a context of width {flow.context_dim}, the schema gives one of {wanted}"
                    )
                with_embedding(flow, layout.embedders()[1])
            mass = MassFunction(layout.sizes, of_given, width=width) if layout.sizes else None
            return TableDensity(parsed, given, mass, one_or_several(flows))
    except (ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path}: damaged header: {' '.join(str(error).split())}") from None
