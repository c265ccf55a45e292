"""Stateless scalar maps applied element by element, given their parameters."""

from .affine import Affine as Affine
from .affine import Shift as Shift
from .analytic import CubicRational as CubicRational
from .analytic import SinhArcsinh as SinhArcsinh
from .base import Elementwise as Elementwise
from .spline import RationalQuadratic as RationalQuadratic
