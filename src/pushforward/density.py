"""Density: what every model is; and the space of its rows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .arguments import as_leading, as_numbers, filled, has_dtype, split_contexts
from .io.atomic import atomic

if TYPE_CHECKING:
    from .fixed_start import FixedStart
    from .flow import Flow


class InnerFlow(NamedTuple):
    """A flow inside a density, and what it sees of some rows.

    Attributes:
        flow: over tensors.
        x: (N, *shape), in the dtype of the flow.
        context: (N, K), or None.
    """

    flow: Flow
    x: Tensor
    context: Tensor | None


class Density(nn.Module, ABC):
    """A probability density over the rows of a space: what checks, plots, files, estimators and commands rely on.

    Attributes:
        space: what a row is.
        unsampled: the share of the mass that `sample` leaves out, such as values that were never seen: `sample` draws
            from `log_prob` conditioned on all but this share.
        training_summary: JSON-able facts about the training, such as `Fit.summary`; None before any.
        about: JSON-able facts about the data that a program keeps in the model's file; None for none.
        has_map: whether it is the image of a base density under one bijection, as a `Flow` is, whose map can be shown.
        takes_noise: whether `log_prob` and `latent` take `noise` (N, C) of the unit interval, for cells without number.
    """

    space: Space
    unsampled: float = 0.0
    training_summary: dict[str, Any] | None = None
    about: dict[str, Any] | None = None
    takes_noise: bool = False
    has_map: bool = False

    @abstractmethod
    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """Log-density of each row in nats, in the units of the data: x (N, ...) -> (N,)."""

    @abstractmethod
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Any:
        """Draws n rows, or n for each context, of the kind that `log_prob` takes."""

    def sample_at(
        self, index: NDArray[np.int64], contexts: Any, *, generator: torch.Generator | int | None = None
    ) -> Any:
        """Draws a row for each of some contexts: index (N,) of M contexts -> N rows of the space."""
        return self.space.flatten_samples(self.sample(1, contexts[index], generator=generator))

    def note_context(self, context: Any) -> None:
        """Finds out how many axes one context has, where that is open."""

    @property
    def members(self) -> list[Density]:
        """The densities that it is a mixture of; itself alone where it is none."""
        return [self]

    def combine(self, log_probs: Tensor) -> Tensor:
        """Log-densities of its members (M, *N) -> its own (*N,)."""
        return log_probs[0]

    def initialize(self, x: Any, context: Any = None) -> None:
        """Sets what depends on data from a batch, once, before the first training; there may be nothing."""

    def latent(self, x: Any, context: Any = None) -> Tensor | None:
        """The rows in the latent space, z (N, D), standard normal if the model is right; None where there is none."""
        return None

    def inner_flows(self, x: Any, context: Any = None) -> list[InnerFlow]:
        """The flows that it is made of, none by default, with what each sees of N rows, so that their maps can be
        checked. Where it is one flow, `latent` is that flow's, and follows its base."""
        return []

    def fixed_start(self) -> FixedStart | None:
        """What it begins with that is fixed once `initialize` saw data; None where there is no such map."""
        return None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`log_prob` of one batch, x (B, *shape), context (B, K) -> (B,)."""
        return self.log_prob(x, context)


class Feature(NamedTuple):
    """One column of `Space.features`.

    Attributes:
        name: for people, such as "colour = red".
        column: the number of the column of the rows that it tells of.
        indicator: whether it is 0 or 1, for a category or a missing cell.
    """

    name: str
    column: int
    indicator: bool


class Space(ABC):
    """The rows that a density is over: how to read, compare and write them.

    Rows have a length and are indexed by an array of row numbers.

    Attributes:
        names: of the columns, the given ones of a conditional table among them.
        given: names of the columns that are conditioned on and are part of a row.
        sizes: the number of states of each of the M discrete columns of `encode`.
        given_sizes: that of each of the first columns of `encode_given`; all others of it are numbers.
        words: of reports, such as "row" and "columns", and what they are called here.
        byte_count: bytes of a row, for log-densities in bits per dimension; 0 where a row is no array of bytes.
    """

    names: tuple[str, ...]
    given: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    given_sizes: tuple[int, ...] = ()
    words: Mapping[str, str] = MappingProxyType({})
    byte_count: int = 0

    def describe(self) -> str:
        """What the columns are, for people: a line, or a line for each."""
        return ", ".join(self.names)

    @abstractmethod
    def read(self, source: Any) -> Any:
        """Rows from anything that holds them: arrays, frames, dictionaries of columns, files.

        Raises:
            ValueError: it does not fit the space; the message says what was expected and what came.
        """

    @property
    def number_names(self) -> Sequence[str]:
        """The names of the C columns of numbers of `encode`, in their order."""
        return self.names

    @property
    @abstractmethod
    def feature_list(self) -> list[Feature]:
        """What the F columns of `features` are."""

    @abstractmethod
    def features(self, rows: Any) -> NDArray[np.float64]:
        """N rows as a matrix (N, F) of finite numbers, for classifiers and distances."""

    def texts(self, rows: Any) -> dict[str, NDArray[Any]]:
        """The columns of N rows that hold words and are modelled, by name: (N,) strings, None where one is missing."""
        return {}

    def as_pictures(self, rows: Any) -> NDArray[np.uint8] | None:
        """N rows as pictures (N, H, W) or (N, H, W, C), where they are some."""
        return None

    @abstractmethod
    def impossible(self, rows: Any) -> NDArray[np.bool_]:
        """Which rows (N,) cannot be, whatever the weights are, as by a category that was never seen."""

    def unseen(self, rows: Any) -> NDArray[np.bool_]:
        """Which rows (N,) hold what was never seen in training, so that little is known of them but that."""
        return self.impossible(rows)

    @abstractmethod
    def encode(self, rows: Any, generator: torch.Generator | int | None = None) -> Tensor:
        """N rows as one tensor (N, M + C): M states, then C numbers, NaN where there is none.

        A state of a column with K states that is K stands for what was never seen: a density takes it as not there, and
        integrates it out. `wrap` adds its probability.

        Args:
            rows: of this space.
            generator: of the noise within cells, for rows that a density is fitted to; None takes that of scoring.
        """

    def encode_given(self, rows: Any) -> Tensor | None:
        """The `given` columns of N rows as numbers (N, G), the context of `wrap`; None where rows hold none."""
        return None

    @abstractmethod
    def wrap(self, inner: Density) -> Density:
        """The density over this space of a density over the tensors of `encode`."""

    def baselines(self, rows: Any, context: Any = None) -> dict[str, tuple[str, Density]]:
        """Simple densities fitted to N rows, beside those fitted to `encode`: by name, with a label; none here."""
        return {}

    def as_given(self, context: Tensor) -> Tensor:
        """Contexts (N, K) as numbers (N, K') that simple densities may be linear in."""
        return context

    @abstractmethod
    def write(self, rows: Any, path: str | PathLike[str]) -> None:
        """Writes rows to a file; the suffix decides on the format."""

    @abstractmethod
    def join(self, parts: Sequence[Any]) -> Any:
        """Rows, one part after another."""

    @abstractmethod
    def index_contexts(self, n: Any, context: Any) -> tuple[Any, NDArray[np.int64], int]:
        """-> the M contexts, which of them each row of `sample(n, context)` has (N,), N; None, empty, N without."""

    def expand_context(self, n: Any, context: Any) -> tuple[Any, int]:
        """-> a context for each row that `sample(n, context)` draws, in their order (None for none); their number."""
        contexts, index, count = self.index_contexts(n, context)
        return (None, count) if contexts is None else (contexts[index], count)

    @abstractmethod
    def flatten_samples(self, drawn: Any) -> Any:
        """What `sample` returned, as rows."""

    @abstractmethod
    def unflatten_samples(self, rows: Any, n: Any, context: Any) -> Any:
        """Rows in the order of `expand_context`, as `sample(n, context)` returns them: undoes `flatten_samples`."""

    def matches(self, other: Space) -> bool:
        """Whether the rows of another space are rows of this one."""
        return type(self) is type(other) and self.names == other.names


class Tensors(Space):
    """Tensors of one shape.

    Args:
        shape: (C, *S) of one row.

    Attributes:
        context_rank: how many axes one context has: 1, but where a flow embeds others than vectors.
    """

    context_rank: int = 1

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """x0, x1, ... for each number."""
        return tuple(f"x{i}" for i in range(math.prod(self.shape)))

    def read(self, source: ArrayLike | Tensor) -> Tensor:
        """Numbers (N, *shape) -> a tensor (N, *shape) of their own dtype, float32 at least, integers as float64.

        Raises:
            ValueError: they have another shape, there are none, they are complex, or some are not finite.
        """
        like = source if isinstance(source, Tensor) else torch.empty(0)
        if not isinstance(source, Tensor):
            source = np.asarray(filled(source), dtype=None if hasattr(source, "dtype") else np.float64)
        is_short = any(has_dtype(source, dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32))
        rows = as_numbers(source, "rows", like, torch.float32 if is_short else torch.float64).detach()
        rows = rows[:, None] if self.shape == (1,) and rows.ndim == 1 else rows
        if rows.shape[1:] != self.shape or rows.ndim != len(self.shape) + 1 or len(rows) == 0:
            expected = ", ".join(("N", *map(str, self.shape)))
            raise ValueError(f"expected rows of shape ({expected}) with N >= 1, got {tuple(rows.shape)}")
        bad = (~torch.isfinite(rows.flatten(1)).all(1)).nonzero()[:, 0]
        if len(bad):
            raise ValueError(f"rows must hold finite numbers: {len(bad):,} do not, the first is row {int(bad[0])}")
        return rows

    @property
    def feature_list(self) -> list[Feature]:
        """One for each number."""
        return [Feature(name, i, False) for i, name in enumerate(self.names)]

    def features(self, rows: Tensor) -> NDArray[np.float64]:
        """Rows (N, *shape) -> (N, prod(shape))."""
        return rows.flatten(1).double().cpu().numpy()

    def impossible(self, rows: Tensor) -> NDArray[np.bool_]:
        """None are: rows (N, *shape) -> False (N,)."""
        return np.zeros(len(rows), dtype=bool)

    def encode(self, rows: Tensor, generator: torch.Generator | int | None = None) -> Tensor:
        """Rows (N, *shape) -> (N, prod(shape)) float64."""
        return rows.flatten(1).double()

    def wrap(self, inner: Density) -> Density:
        """The density itself."""
        return inner

    def write(self, rows: Tensor, path: str | PathLike[str]) -> None:
        """Writes rows (N, *shape) to a .npy file.

        Raises:
            ValueError: another suffix.
        """
        if not str(path).endswith(".npy"):
            raise ValueError(f"cannot write {path}: expected a file ending in .npy")
        with atomic(path) as part:
            np.save(part, rows.detach().cpu().numpy())

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts (N_k, *shape) -> (sum N_k, *shape)."""
        return torch.cat(list(parts))

    def index_contexts(self, n: Any, context: Any) -> tuple[Tensor | None, NDArray[np.int64], int]:
        """n, or a shape, for each of the contexts (*M, K) -> (prod(M), K), their numbers, as drawn, and how many.

        Raises:
            ValueError: n is negative, or a context has too few axes.
        """
        each = math.prod(as_leading(n))
        if context is None:
            return None, np.empty(0, dtype=np.int64), each
        contexts, _ = split_contexts(torch.as_tensor(context), self.context_rank)
        return contexts, np.tile(np.arange(len(contexts)), each), each * len(contexts)

    def flatten_samples(self, drawn: Tensor) -> Tensor:
        """Draws (n, *M, *shape) -> (n * prod(M), *shape)."""
        return drawn.reshape(-1, *self.shape)

    def matches(self, other: Space) -> bool:
        """Whether rows have the same shape."""
        return isinstance(other, Tensors) and self.shape == other.shape

    def unflatten_samples(self, rows: Tensor, n: Any, context: Any) -> Tensor:
        """Rows (n * prod(M), *shape) -> (n, *M, *shape)."""
        leading = () if context is None else split_contexts(torch.as_tensor(context), self.context_rank)[1]
        return rows.view(*as_leading(n), *leading, *self.shape)


class Vectors(Tensors):
    """Rows of D numbers.

    Args:
        names: of the D columns; x0, x1, ... where an integer D is given.

    Example:
        >>> Vectors(["a", "b"]).read({"b": [1.0, 2.0], "a": [3.0, 4.0]})
        tensor([[3., 1.],
                [4., 2.]], dtype=torch.float64)
    """

    def __init__(self, names: int | Sequence[str]) -> None:
        super().__init__((names if isinstance(names, int) else len(names),))
        self._names = None if isinstance(names, int) else tuple(str(name) for name in names)
        if self._names is not None and len(set(self._names)) < len(self._names):
            raise ValueError(f"column names must differ from each other, got {list(self._names)}")

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of the D columns."""
        return super().names if self._names is None else self._names

    def read(self, source: Any) -> Tensor:
        """Numbers (N, D), or what has the columns `names` -> (N, D): a frame of any library, a dictionary or a file.

        Raises:
            ValueError: a column is absent (it is named), holds missing cells or no numbers, or as `Tensors.read`.
            OSError: a file cannot be read.
        """
        from .io import tables

        frame = tables.read_named(source)
        return super().read(source if frame is None else frame.model_matrix(self.names))

    def write(self, rows: Tensor, path: str | PathLike[str]) -> None:
        """Writes rows (N, D) to a .csv, .parquet, .npy, ... file, as the suffix says.

        Raises:
            ValueError: another suffix; those that can be written are listed.
        """
        from .io import frames, tables

        tables.write_table(frames.of_array(rows.detach().cpu().numpy(), self.names), path)
