"""A fitted estimator as a model file: its density, and beside it what it knows of the table and of the context."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from ..density import Density
from ..io import models
from ..training import Fit
from ._columns import KINDS, Cells, Numbers, named_columns
from ._constants import ConstantColumns
from ._fitting import adopt, has_numbers_alone

if TYPE_CHECKING:
    from .density import FlowDensity


def write(estimator: FlowDensity, path: str | PathLike[str]) -> None:
    """Writes an estimator.

    Raises:
        ValueError: no column varies, so that there is nothing to write.
    """
    density: Density | None = estimator.density_
    if isinstance(density, ConstantColumns):
        density = density.inner
    if density is None:
        raise ValueError("no column varies, so that there is no flow for a model file to hold: pickle it instead")
    form, context = estimator._x.form, estimator._context
    facts: dict[str, Any] = {"kind": form.kind}
    about: dict[str, Any] = {"estimator": facts}
    if isinstance(estimator._x, Numbers):
        facts |= {
            "columns": form.names,
            "named": hasattr(estimator, "feature_names_in_"),
            "constant": {str(i): value for i, value in estimator.constant_columns_.items()},
            "dtype": estimator._x.dtype.name,
            "context": context.names if context is not None and context.form.named else None,
        }
        if not facts["named"]:
            about["width"] = len(form.names)
    training = None if estimator.fit_record_ is None else estimator.fit_record_.summary
    models.save(density, path, about=about, training=training)


def read(estimator: FlowDensity, path: str | PathLike[str]) -> FlowDensity:
    """Fills an unfitted estimator from a file; a density that no estimator saved gives arrays, or Arrow tables.

    Raises:
        ValueError: it is damaged or holds no density of rows.
    """
    density = models.load(path)
    if not has_numbers_alone(density) and not hasattr(density, "schema"):
        raise ValueError(f"{path} holds {density.space.describe().splitlines()[0]}, expected rows of a table or (N, D)")
    facts = (density.about or {}).get("estimator")
    if not has_numbers_alone(density):
        named = density.schema.named
        kind = facts.get("kind") if isinstance(facts, dict) else None
        kind = kind if kind in KINDS else "pyarrow" if named else "numpy"
        names = [c.name for c in density.schema.columns if c.name not in density.given]
        columns = named_columns(Cells, "X", names, named, kind, "double")
        given = named_columns(Cells, "context", density.given, named, kind, "double") if density.given else None
        adopt(estimator, density, columns, given)
    else:
        facts = _facts_of(density) if facts is None else facts
        problem = _problem(facts, density)
        if problem:
            raise ValueError(f"{path}: damaged header: {problem}")
        names, named, dtype = facts["columns"], facts["named"], "float" if facts["dtype"] == "float32" else "double"
        columns = named_columns(Numbers, "X", names, named, facts["kind"], dtype)
        width = _context_dim(density)
        context = facts["context"] or [f"context{i}" for i in range(width)]
        given = named_columns(Numbers, "context", context, facts["context"] is not None, facts["kind"], dtype)
        record = Fit(stopped=(density.training_summary or {}).get("stopped", "done"))
        constants = {int(i): float(value) for i, value in facts["constant"].items()}
        adopt(estimator, density.double(), columns, given if width else None, constants=constants, record=record)
    estimator.n_features_in_ = len(names)
    if named:
        estimator.feature_names_in_ = np.array(names, dtype=object)
    return estimator


def _context_dim(density: Density) -> int:
    return getattr(density.members[0], "context_dim", None) or 0


def _facts_of(density: Density) -> dict[str, Any]:
    """The facts of a density of numbers that was saved without an estimator."""
    names = list(density.space.names)
    named = names != [f"x{i}" for i in range(len(names))] and "width" not in (density.about or {})
    return {"columns": names, "named": named, "constant": {}, "kind": "numpy", "dtype": "float64", "context": None}


def _problem(facts: Any, density: Density) -> str | None:
    """What is wrong with the facts, in words."""
    types = {
        "columns": list,
        "named": bool,
        "constant": dict,
        "kind": str,
        "dtype": str,
        "context": (list, type(None)),
    }
    if not isinstance(facts, dict):
        return f"the facts on the estimator must be an object, got {type(facts).__name__}"
    for name, kind in types.items():
        if not isinstance(facts.get(name), kind):
            return f"{name} cannot be {facts.get(name)!r:.80}"
    columns, constant, context = facts["columns"], facts["constant"], facts["context"]
    if not all(isinstance(c, str) for c in [*columns, *(context or [])]) or len(set(columns)) != len(columns):
        return "the columns must be distinct names"
    if not all(i.isdecimal() and int(i) < len(columns) and type(v) in (int, float) for i, v in constant.items()):
        return f"constant columns must be numbers by index, got {constant!r:.80}"
    features, width = len(density.space.names), _context_dim(density)
    if len(columns) - len(constant) != features:
        return f"{len(columns)} columns with {len(constant)} constant do not fit a density over {features}"
    if context is not None and len(context) != width:
        return f"{len(context)} context columns do not fit a density with a context of {width}"
    if facts["kind"] not in KINDS or facts["dtype"] not in ("float32", "float64"):
        return f"unknown kind of table {facts['kind']!r} of {facts['dtype']!r}"
    return None
