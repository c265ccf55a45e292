"""The public names, explicitly re-exported; the package hands them on when one is first used."""

from typing import TYPE_CHECKING

from .bases import Base as Base
from .bases import FromDistribution as FromDistribution
from .bases import GaussianMixture as GaussianMixture
from .bases import StandardNormal as StandardNormal
from .bijections import ActNorm as ActNorm
from .bijections import Bijection as Bijection
from .bijections import Chain as Chain
from .bijections import Coupling as Coupling
from .bijections import Inverse as Inverse
from .bijections import LULinear as LULinear
from .bijections import MaskedCoupling as MaskedCoupling
from .bijections import Permute as Permute
from .bijections import Rotation as Rotation
from .bijections import Standardize as Standardize
from .bijections import TriangularCoupling as TriangularCoupling
from .diagnostics import Report as Report
from .diagnostics import check as check
from .elementwise import Affine as Affine
from .elementwise import CubicRational as CubicRational
from .elementwise import Elementwise as Elementwise
from .elementwise import RationalQuadratic as RationalQuadratic
from .elementwise import Shift as Shift
from .elementwise import SinhArcsinh as SinhArcsinh
from .ensemble import Ensemble as Ensemble
from .flow import Flow as Flow
from .flow import initialize as initialize
from .models import Choice as Choice
from .models import choose as choose
from .models import real_nvp as real_nvp
from .models import real_nvp_from_networks as real_nvp_from_networks
from .models import spline_flow as spline_flow
from .models import triangular_spline_flow as triangular_spline_flow
from .nets import MLP as MLP
from .nets import StandardizeContext as StandardizeContext
from .serialize import load as load
from .serialize import save as save
from .tabular import Schema as Schema
from .tabular import TableDensity as TableDensity
from .tabular import fit_table as fit_table
from .tabular import infer_schema as infer_schema
from .training import Epoch as Epoch
from .training import Fit as Fit
from .training import fit as fit
from .training import train as train

if TYPE_CHECKING:  # these need scikit-learn, so the package imports them one by one
    from .estimator import FlowDensity as FlowDensity
    from .estimator import FlowOutlierDetector as FlowOutlierDetector
    from .estimator import PyODFlow as PyODFlow
