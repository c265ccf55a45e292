"""The switch between the plain and the fast forms of the maths, and how torch runs operators.

`PLAIN` is true where the environment variable PUSHFORWARD_PLAIN is set to anything but 0, or where the package
`_fast` was deleted. Then every map, loss and step runs in its textbook form. A broken `_fast` is an error.

A module with a fast form imports it by these lines and asks `if fast and fast.fast_ok():` before it takes it; where
nothing is computed yet, as for the steps of a training, it asks `if fast:`.

    fast: Any = None
    if not PLAIN:
        from ._fast.kernels import vectors as fast
"""

import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

_torch: Any = torch._C
_in_transform = _torch._are_functorch_transforms_active
_forward_ad: Any = forward_ad

_METHODS = ("forward", "log_prob", "_log_prob", "_to_latent")

PLAIN: bool = os.environ.get("PUSHFORWARD_PLAIN", "0") not in ("", "0") or find_spec("pushforward._fast") is None


def is_eager() -> bool:
    """Whether operators run one by one on ordinary tensors, whose values may be looked at.

    They do not under compilation or export, under a transform of `torch.func`, nor in forward mode.
    """
    return not (torch.compiler.is_compiling() or _in_transform() or _forward_ad._current_level >= 0)


def is_unaltered(density: nn.Module, cls: type) -> bool:
    """Whether a density has the methods of a class, and neither it nor its layers have hooks, or forms of their own.

    Steps by hand and recorded ones would pass over a method that was overridden, a hook of a layer or of a gradient,
    a `forward` put in place of the class's, and what `torch.nn.utils.parametrize` makes.
    """
    if any(getattr(type(density), name, None) is not getattr(cls, name, None) for name in _METHODS):
        return False
    for module in density.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        if any(hooks) or "forward" in vars(module) or hasattr(module, "parametrizations"):
            return False
    return not any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in density.parameters())


class Watch(TorchDispatchMode):
    """Sees every operator that runs within it; a class of its own has `__torch_dispatch__`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: torch would otherwise load its compiler, which takes seconds, to keep it away from the mode."""
        return False
