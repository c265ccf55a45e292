"""A fitted estimator as a model file: the flow, and beside it, in the schema, what the estimator knows of the table."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from ..flow import Flow
from ..io import models as serialize
from ..tables import TableDensity
from ..training import Fit
from . import _frames, _mixed


def write(estimator: Any, path: str | PathLike[str]) -> None:
    """Writes an estimator of mixed rows or of one flow.

    Raises:
        ValueError: it has another number of flows over rows of numbers.
    """
    if estimator.table_ is not None:
        training = estimator.table_.training_summary | {"frame": estimator._mixed.x.form.kind}
        serialize.save(estimator.table_, path, training=training)
        return
    if len(estimator.flows_) != 1:
        raise ValueError(
            f"a model file holds one flow, this estimator has {estimator._rows.members}: pickle it instead"
        )  # fmt: skip
    names = [str(n) for n in estimator._columns]
    schema: dict[str, Any] = {"columns": [names[i] for i in estimator._varying]}
    if not hasattr(estimator, "feature_names_in_"):
        schema["width"] = len(names)
    schema["estimator"] = {
        "columns": names,
        "named": hasattr(estimator, "feature_names_in_"),
        "constant": {str(i): v for i, v in estimator.constant_columns_.items()},
        "kind": estimator._kind,
        "dtype": estimator._dtype.name,
        "context": estimator._context_columns and [str(n) for n in estimator._context_columns],
    }
    serialize.save(estimator.flow_, path, about=schema, training=estimator.fit_record_.summary)


def read(estimator: Any, path: str | PathLike[str]) -> Any:
    """Fills an unfitted estimator from a file.

    Raises:
        ValueError: it is damaged or holds no density of rows.
    """
    flow = serialize.load(path)
    if isinstance(flow, TableDensity):
        return _of_table(estimator, flow)
    if len(flow.shape) != 1:
        raise ValueError(f"{path} holds a flow of shape {flow.shape}, expected one of rows (D,)")
    schema = flow.about or {}
    facts = schema["estimator"] if "estimator" in schema else _facts_of(flow, schema)
    problem = _problem(facts, flow)
    if problem:
        raise ValueError(f"{path}: damaged header: {problem}")
    names = facts["columns"]
    estimator.constant_columns_ = {int(i): float(v) for i, v in facts["constant"].items()}
    estimator._varying = np.array([i for i in range(len(names)) if i not in estimator.constant_columns_])
    estimator._columns, estimator._kind, estimator._dtype = names, facts["kind"], np.dtype(facts["dtype"])
    estimator._context_columns, estimator.n_context_features_in_ = facts["context"], flow.context_dim or 0
    estimator.n_features_in_ = len(names)
    if facts["named"]:
        estimator.feature_names_in_ = np.array(names, dtype=object)
    estimator.flow_ = flow.double().eval()
    estimator.flows_ = [estimator.flow_]
    estimator.fit_record_ = Fit(stopped=(flow.training_summary or {}).get("stopped", "done"))
    return estimator


def _of_table(estimator: Any, table: TableDensity) -> Any:
    """Fills an unfitted estimator from the density of a table; one that no estimator saved gives Arrow tables."""
    kind = (table.training_summary or {}).get("frame")
    if kind not in _frames.KINDS:
        kind = "pyarrow" if table.schema.named else "numpy"
    rows = _mixed.of_file(table.eval(), kind)
    _mixed.adopt(estimator, rows)
    estimator.n_features_in_ = len(rows.x.names)
    if table.schema.named:
        estimator.feature_names_in_ = np.array(rows.x.names, dtype=object)
    return estimator


def _facts_of(flow: Flow, schema: dict[str, Any]) -> dict[str, Any]:
    """The facts of a flow that was saved without an estimator."""
    named = "columns" in schema
    return {
        "columns": schema["columns"] if named else [f"x{i}" for i in range(flow.shape[0])],
        "named": named and "width" not in schema,
        "constant": {},
        "kind": "numpy",
        "dtype": "float64",
        "context": None,
    }


def _problem(facts: Any, flow: Flow) -> str | None:
    """What is wrong with the facts, in words."""
    wanted = {
        "columns": list,
        "named": bool,
        "constant": dict,
        "kind": str,
        "dtype": str,
        "context": (list, type(None)),
    }
    if not isinstance(facts, dict):
        return f"the facts on the estimator must be an object, got {type(facts).__name__}"
    for name, kind in wanted.items():
        if not isinstance(facts.get(name), kind):
            return f"{name} cannot be {facts.get(name)!r:.80}"
    columns, constant, context = facts["columns"], facts["constant"], facts["context"]
    if not all(isinstance(c, str) for c in [*columns, *(context or [])]) or len(set(columns)) != len(columns):
        return "the columns must be distinct names"
    if not all(i.isdecimal() and int(i) < len(columns) and type(v) in (int, float) for i, v in constant.items()):
        return f"constant columns must be numbers by index, got {constant!r:.80}"
    if len(columns) - len(constant) != flow.shape[0]:
        return f"{len(columns)} columns with {len(constant)} constant do not fit a flow over {flow.shape[0]}"
    if context is not None and len(context) != (flow.context_dim or 0):
        return f"{len(context)} context columns do not fit a flow with a context of {flow.context_dim}"
    if facts["kind"] not in _frames.KINDS or facts["dtype"] not in ("float32", "float64"):
        return f"unknown kind of table {facts['kind']!r} of {facts['dtype']!r}"
    return None
