"""Kinds of columns: what each cell may be, how it is encoded and decoded, described and saved. A class for each kind.

To add a kind, write its class in a file of this folder and register it below. They are tried in this order.
"""

from .atoms import WithAtoms as WithAtoms
from .base import Cells as Cells
from .base import Kind as Kind
from .base import Plain as Plain
from .base import Request as Request
from .base import fact as fact
from .category import Category as Category
from .category import Dropped as Dropped
from .category import Empty as Empty
from .circular import Circular as Circular
from .coarse import WithCoarse as WithCoarse
from .constant import Constant as Constant
from .date import Date as Date
from .function import Function as Function
from .lattice import Lattice as Lattice
from .number import Number as Number
from .real import Bounded as Bounded
from .real import Positive as Positive
from .real import Real as Real
from .registry import OF_TEXTS as OF_TEXTS
from .registry import from_json as from_json
from .registry import infer_kind as infer_kind
from .registry import read_as as read_as
from .registry import register as register
from .registry import request_of as request_of
from .related import Related as Related
from .rounded import Integer as Integer
from .rounded import Rounded as Rounded
from .uneven import Uneven as Uneven

for _kind in (
    Dropped, Empty, Category, Constant, Date, Integer, Circular, Rounded, Bounded, Positive, Real,
    WithAtoms, WithCoarse, Uneven, Related, Function,
):  # fmt: skip
    register(_kind)
