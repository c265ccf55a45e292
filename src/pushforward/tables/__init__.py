"""Tables with columns of any kind: their schema, and an exact density of their rows."""

from .bad_rows import drop_bad_rows as drop_bad_rows
from .bad_rows import good_rows as good_rows
from .columns import Kind as Kind
from .density import TableDensity as TableDensity
from .fit import fit_table as fit_table
from .inner import StatesThenNumbers as StatesThenNumbers
from .mass import MassFunction as MassFunction
from .schema import Schema as Schema
from .schema import infer_schema as infer_schema
from .space import Columns as Columns
from .streaming import Scores as Scores
