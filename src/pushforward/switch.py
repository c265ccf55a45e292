"""The switch between the plain and the fast forms of the maths.

`PLAIN` is true where the environment variable PUSHFORWARD_PLAIN is set to anything but 0, or where the package
`_fast` was deleted. Then every map, loss and step runs in its textbook form. A broken `_fast` is an error.
"""

import os
from importlib.util import find_spec

PLAIN: bool = os.environ.get("PUSHFORWARD_PLAIN", "0") not in ("", "0") or find_spec("pushforward._fast") is None
