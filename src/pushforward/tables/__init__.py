"""Tables with columns of any kind: their schema, and an exact density of their rows."""

from . import saved as saved
from .bad_rows import GoodRows as GoodRows
from .bad_rows import drop_bad_rows as drop_bad_rows
from .column import Column as Column
from .density import TableDensity as TableDensity
from .fitting import fit_table as fit_table
from .mass import MassFunction as MassFunction
from .schema import Schema as Schema
from .schema import infer_schema as infer_schema
from .streaming import Scores as Scores
