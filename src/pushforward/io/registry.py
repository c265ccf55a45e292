"""The kinds of densities that model files hold. A module that defines one calls `register`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple, TypeVar

from ..density import Density

D = TypeVar("D", bound=Density)


@dataclass(frozen=True)
class Builder:
    """Builds densities from the settings of a file.

    Attributes:
        path: of the file, for messages.
        tensors: how many the file holds.
        seed: of initial weights, which the file's own replace.
    """

    path: str | PathLike[str]
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
    raise ValueError(f"{type(density).__name__} cannot be saved: its class was not made known by io.registry.register")
