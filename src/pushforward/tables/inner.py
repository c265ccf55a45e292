"""StatesThenNumbers: a flow's density of rows with states and numbers, and how it takes rows without some numbers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..arguments import as_generator
from ..bijections import Precondition
from ..bijections.whitening import whitening
from ..density import Density, InnerFlow, Vectors
from ..flow import Flow
from ..io.registry import Builder, describe, register
from ..mixture import Mixture
from ..training.tails import bend_outermost, drawn_in_time, draws_for
from .embedder import Embedder
from .exclusions import checked_pairs
from .mass import MassFunction
from .noise import uniforms

_LOG_NORMAL = -0.5 * math.log(2 * math.pi)
_MOST_UNITS, _MOST_COLUMNS = 1_000_000, 100_000  # that a file may ask for


class StatesThenNumbers(Density):
    """log p(x | context) = log P(states | context) + log p(numbers | states, context), for rows x (B, M + C).

    A number that is NaN, for there is none, is filled with normal noise whose density is subtracted: a lower bound in
    expectation, by Jensen's inequality, and exact where a row has no number at all. `sample` draws all numbers; what
    they are in a state that has none does not matter.

    Args:
        mass: of the M states; None where there are none.
        flow: of the C numbers, given (states, context) (B, M + G); or a mixture of flows; None where there are none.

    Attributes:
        precondition: a fixed map of the numbers before the flow; None where there are none.
    """

    takes_noise = True
    space: Vectors  # type: ignore[override]  # set once, never replaced by another space

    def __init__(self, mass: MassFunction | None, flow: Flow | Mixture | None) -> None:
        super().__init__()
        if mass is None and flow is None:
            raise ValueError("there are neither states nor numbers to model")
        self.mass, self.flow = mass, flow
        sizes = () if mass is None else mass.sizes
        self.numbers = 0 if flow is None else self.flows[0].shape[0]
        self.precondition = Precondition(self.numbers) if self.numbers else None
        self.space = Vectors(len(sizes) + self.numbers)  # type: ignore[override]
        self.space.sizes = sizes

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each of the M states has."""
        return self.space.sizes

    @property
    def flows(self) -> list[Flow]:
        """The flows of the numbers: none, one, or the members of a mixture."""
        return [] if self.flow is None else cast("list[Flow]", self.flow.members)

    def log_prob(self, x: Tensor, context: Tensor | None = None, *, noise: Tensor | None = None) -> Tensor:
        """Log-density of rows x (B, M + C) given context (B, G) -> (B,) float64, in nats.

        Args:
            x: M states and C numbers, NaN where there is none.
            context: what the density is conditional on, (B, G), or (1, G) for all rows.
            noise: (B, C) in the open unit interval, for what is filled; None takes a hash of each row.
        """
        context = None if context is None else context.expand(len(x), -1)
        total = x.new_zeros(len(x), dtype=torch.float64)
        if self.mass is not None:
            total = total + self.log_mass(x, context)
        if self.flow is not None:
            z, contexts, added = self.flow_inputs(x, context, noise)
            log_prob = self.flow.log_prob(z, contexts).double() + added
            total = total + torch.where(x[:, len(self.sizes) :].isnan().all(1), 0.0, log_prob)
        return total

    def log_mass(self, x: Tensor, context: Tensor | None) -> Tensor:
        """log P(states | context) of rows x (B, M + C) -> (B,) float64."""
        mass = self.mass
        assert mass is not None
        given = None if context is None else context.to(mass.bias_out.dtype)
        return mass.log_prob(x[:, : len(self.sizes)], given).double()

    def flow_inputs(
        self, x: Tensor, context: Tensor | None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """-> what the flow sees of rows x (B, M + C): z (B, C), its context (B, M + G); what to add to its log-density.

        The numbers are filled and preconditioned; what is added, (B,) float64, is the log-determinant and the noise's.
        """
        assert self.precondition is not None
        y = x[:, len(self.sizes) :].double()
        absent, added = y.isnan(), y.new_zeros(len(y))
        if bool(absent.any()):
            u = self._noise(x) if noise is None else noise
            filled = torch.special.ndtri(u.double())
            y = torch.where(absent, filled, y)
            added = torch.where(absent, 0.5 * filled.square() - _LOG_NORMAL, 0.0).sum(1)
        z, log_det = self.precondition(y)
        z = z.float()  # as the flow was trained on them, so that a model scores alike in any dtype
        return z, self._contexts(x, context), added + log_det

    def latent(self, x: Tensor, context: Tensor | None = None, *, noise: Tensor | None = None) -> Tensor | None:
        """The numbers of rows x (B, M + C) in the latent space (B, C); None for none, or several flows."""
        if len(self.flows) != 1:
            return None
        z, contexts, _ = self.flow_inputs(x, context, noise)
        return self.flows[0].f(z, contexts)[0]

    def inner_flows(self, x: Tensor, context: Tensor | None = None) -> list[InnerFlow]:
        """The flows of the numbers, with what they see."""
        if self.flow is None:
            return []
        z, contexts, _ = self.flow_inputs(x, context)
        return self.flow.inner_flows(z, contexts)

    @torch.no_grad()
    def sample(
        self, n: int, context: Tensor | None = None, *, generator: torch.Generator | int | None = None
    ) -> Tensor:
        """Draws n rows, (n, M + C) float64; n for each context (*B, G): (n, *B, M + C)."""
        device = next(self.parameters()).device
        generator = as_generator(generator, device)
        contexts, count = self.space.expand_context(n, context)
        x = torch.zeros(count, self.space.shape[0], dtype=torch.float64, device=device)
        if self.mass is not None:
            given = None if contexts is None else contexts.to(self.mass.bias_out)
            states = self.mass.sample(count if given is None else 1, given, generator=generator)
            x[:, : len(self.sizes)] = states.reshape(count, len(self.sizes)).double()
        if self.flow is not None and self.precondition is not None:
            flow_contexts = self._contexts(x, contexts)
            z = self.flow.sample(count if flow_contexts is None else 1, flow_contexts, generator=generator)
            z = z.reshape(count, self.numbers)
            x[:, len(self.sizes) :] = self.precondition.inverse(z.double())[0]
        return self.space.unflatten_samples(x, n, context)

    @torch.no_grad()
    def calibrate_tails(
        self, x: Tensor, context: Tensor | None, val: Tensor, val_context: Tensor | None, val_noise: Tensor, seed: int,
        until: float = math.inf,
    ) -> None:  # fmt: skip
        """Bends the precondition beyond the outermost of the rows that it was trained on, as `bend_outermost` does.

        Args:
            x: (N, M + C), rows that it was trained on.
            context: (N, G), or None.
            val: (V, M + C), rows that are held out.
            val_context: (V, G), or None.
            val_noise: (V, C), for what is filled in them.
            seed: of draws.
            until: when, by `time.perf_counter`, no more bends are tried.
        """
        if self.flow is None or self.precondition is None:
            return
        (z, contexts, _), held_out = self.flow_inputs(x, context), self.flow_inputs(val, val_context, val_noise)
        sample = partial(self.flow.sample, generator=as_generator(seed, z.device))
        drawn = drawn_in_time(sample, contexts, draws_for(len(x) + len(val)), until)
        if drawn is None:
            return

        def score() -> Tensor:
            assert self.flow is not None
            moved, given, added = self.flow_inputs(val, val_context, val_noise)
            return self.flow.log_prob(moved, given).double() + added

        bend_outermost(self.precondition, torch.cat([z, held_out[0]]), len(x), drawn, score, until)

    @torch.no_grad()
    def whiten(self, x: Tensor, context: Tensor | None, noise: Tensor) -> None:
        """Sets the linear maps of the numbers, before the flow and among what is given, from rows x (N, M + C)."""
        if self.precondition is not None:
            y = x[:, len(self.sizes) :].double()
            y = torch.where(y.isnan(), torch.special.ndtri(noise.double()), y)
            self.precondition.measure(y, whiten=True)
        for embed in (None if self.mass is None else self.mass.given, *(flow.embed for flow in self.flows)):
            if isinstance(embed, Embedder) and embed.reals and context is not None:
                # Numbers that say nearly the same, such as magnitudes, tell most by their small differences.
                embed.whitening.copy_(whitening(context[:, -embed.reals :].double()))

    def shrink(self, x: Tensor, context: Tensor | None) -> None:
        """Until `settle`, what is rare among the states of rows x (N, M + C) and their context tells little."""
        if self.mass is not None and self.mass.needs_training:
            self.mass.shrink(x[:, : len(self.sizes)].long(), context)
        contexts = self._contexts(x, context)
        for flow in self.flows:
            if isinstance(flow.embed, Embedder) and contexts is not None:
                flow.embed.shrink(contexts)

    def settle(self) -> None:
        """Ends the shrinkage of a training: the weights become what they counted as."""
        for part in (self.mass, *(flow.embed for flow in self.flows)):
            if isinstance(part, MassFunction | Embedder):
                part.settle()

    def _contexts(self, x: Tensor, context: Tensor | None) -> Tensor | None:
        """What the flow is conditional on, (B, M + G), before its embedding; None for nothing."""
        parts = [x[:, : len(self.sizes)].float()] if self.sizes else []
        parts += [] if context is None else [context.float()]
        return torch.cat(parts, 1) if parts else None

    def _noise(self, x: Tensor) -> Tensor:
        rows = np.ascontiguousarray(x.detach().double().cpu().numpy())
        states, numbers = rows[:, : len(self.sizes)].astype(np.int64), rows[:, len(self.sizes) :]
        return torch.from_numpy(uniforms(states, numbers, 0)).to(x.device)


def embedded(flow: Flow, embed: Embedder | None) -> Flow:
    """Gives a flow that a recipe built for the embedded context the embedding of the raw one."""
    if embed is not None:
        flow.embed, flow.context_dim = embed, embed.features_in
        flow.kept_apart = ("embed", "context_dim")
    return flow


def embedders(
    sizes: tuple[int, ...], given_sizes: tuple[int, ...], given_numbers: int, generator: Any = None
) -> tuple[Embedder | None, Embedder | None]:
    """-> what embeds the given columns for the mass function, and states and given columns for the flow."""
    given = Embedder(given_sizes, given_numbers, generator=generator)
    both = Embedder(sizes + given_sizes, given_numbers, generator=generator)
    return given if given.features_in else None, both if both.features_in else None


def _settings(density: StatesThenNumbers) -> dict[str, Any]:
    known = density.mass.given if density.mass is not None else density.flows[0].embed
    sizes, reals = (known.sizes, known.reals) if isinstance(known, Embedder) else ((), 0)
    return {
        "sizes": list(density.sizes),
        "given_sizes": list(sizes if density.mass is not None else sizes[len(density.sizes) :]),
        "given_numbers": reals,
        "mass_width": None if density.mass is None else density.mass.width,
        "mass_order": None if density.mass is None else list(density.mass.order),
        "mass_parents": None if density.mass is None else [list(pair) for pair in density.mass.parents.items()],
        "mass_exclusions": [] if density.mass is None else [list(pair) for pair in density.mass.excluded_pairs],
        "flow": None if density.flow is None else describe(density.flow),
    }


def _build(settings: dict[str, Any], builder: Builder) -> StatesThenNumbers:
    sizes, given_sizes = (_checked_sizes(settings.get(name), name) for name in ("sizes", "given_sizes"))
    given_numbers, width, flow = (settings.get(name) for name in ("given_numbers", "mass_width", "flow"))
    if type(given_numbers) is not int or not 0 <= given_numbers <= _MOST_COLUMNS:
        raise ValueError(f"bad given_numbers {given_numbers!r}")
    if width is not None and (type(width) is not int or not 1 <= width <= _MOST_UNITS):
        raise ValueError(f"bad mass_width {width!r}")
    embed_given, embed_all = embedders(sizes, given_sizes, given_numbers)
    wanted = 0 if embed_all is None else embed_all.features_out
    built = None if flow is None else builder.build(flow)
    for member in [] if built is None else built.members:
        if not isinstance(member, Flow) or member.context_dim != wanted:
            raise ValueError(f"the flow does not fit: its context must be one of width {wanted}")
        embedded(member, embedders(sizes, given_sizes, given_numbers)[1])
    mass = MassFunction(sizes, embed_given, width=width, seed=builder.seed) if sizes else None
    if mass is not None and settings.get("mass_order") is not None:  # which older files lack
        _set_order(mass, settings["mass_order"], settings.get("mass_parents"))
    if mass is not None and settings.get("mass_exclusions"):
        total = sum(sizes)
        mass.set_exclusions(checked_pairs(settings["mass_exclusions"], total, total + sum(given_sizes)))
    return StatesThenNumbers(mass, cast("Flow | Mixture | None", built))


def _set_order(mass: MassFunction, order: Any, parents: Any) -> None:
    for name, columns in (("mass_order", [order]), ("mass_parents", parents)):
        if not isinstance(columns, list) or not all(
            isinstance(some, list) and all(type(column) is int for column in some) for some in columns
        ):
            raise ValueError(f"bad {name} {columns!r:.60}")
    if any(len(pair) != 2 for pair in parents):
        raise ValueError(f"bad mass_parents {parents!r:.60}")
    mass.set_order(order, dict(map(tuple, parents)))


def _checked_sizes(value: Any, name: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(v) is int and 2 <= v <= _MOST_UNITS for v in value):
        raise ValueError(f"bad {name} {value!r:.60}")
    return tuple(value)


register("states_then_numbers", StatesThenNumbers, _settings, _build)
