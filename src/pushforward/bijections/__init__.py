"""Invertible maps with exact log-determinants, over tensors (B, C, *S)."""

from .analytic import CubicRational as CubicRational
from .analytic import SinhArcsinh as SinhArcsinh
from .base import Bijection as Bijection
from .base import Chain as Chain
from .base import Inverse as Inverse
from .base import OnHalf as OnHalf
from .base import Rearrangement as Rearrangement
from .base import Within as Within
from .base import checked as checked
from .base import sum_event as sum_event
from .coupling import Coupling as Coupling
from .coupling import MaskedCoupling as MaskedCoupling
from .coupling import TriangularCoupling as TriangularCoupling
from .elementwise import Affine as Affine
from .elementwise import Elementwise as Elementwise
from .elementwise import Shift as Shift
from .linear import LULinear as LULinear
from .linear import Permute as Permute
from .linear import Rotation as Rotation
from .norm import ActNorm as ActNorm
from .norm import Standardize as Standardize
from .precondition import Precondition as Precondition
from .rearrange import Checkerboard as Checkerboard
from .rearrange import Squeeze as Squeeze
from .spline import RationalQuadratic as RationalQuadratic
