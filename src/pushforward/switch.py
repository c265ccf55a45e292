"""The switch between the plain and the fast forms of the maths.

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

PLAIN: bool = os.environ.get("PUSHFORWARD_PLAIN", "0") not in ("", "0") or find_spec("pushforward._fast") is None
