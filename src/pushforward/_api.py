"""The public names, explicitly re-exported; the package hands them on when one is first used."""

from typing import TYPE_CHECKING

from .bases import Base as Base
from .bases import FromDistribution as FromDistribution
from .bases import GaussianMixture as GaussianMixture
from .bases import StandardNormal as StandardNormal
from .bijections import ActNorm as ActNorm
from .bijections import Affine as Affine
from .bijections import Bijection as Bijection
from .bijections import Chain as Chain
from .bijections import Checkerboard as Checkerboard
from .bijections import Coupling as Coupling
from .bijections import CubicRational as CubicRational
from .bijections import Elementwise as Elementwise
from .bijections import Inverse as Inverse
from .bijections import LULinear as LULinear
from .bijections import MaskedCoupling as MaskedCoupling
from .bijections import OnHalf as OnHalf
from .bijections import Permute as Permute
from .bijections import Precondition as Precondition
from .bijections import RationalQuadratic as RationalQuadratic
from .bijections import Rearrangement as Rearrangement
from .bijections import Rotation as Rotation
from .bijections import Shift as Shift
from .bijections import SinhArcsinh as SinhArcsinh
from .bijections import Squeeze as Squeeze
from .bijections import Standardize as Standardize
from .bijections import TriangularCoupling as TriangularCoupling
from .bijections import Within as Within
from .checks import Report as Report
from .checks import check as check
from .density import Density as Density
from .density import Mixture as Mixture
from .density import Space as Space
from .density import Vectors as Vectors
from .flow import Ensemble as Ensemble
from .flow import Flow as Flow
from .flow import initialize as initialize
from .io.models import load as load
from .io.models import save as save
from .nets import MLP as MLP
from .nets import StandardizeContext as StandardizeContext
from .recipes import real_nvp as real_nvp
from .recipes import real_nvp_from_networks as real_nvp_from_networks
from .recipes import spline_flow as spline_flow
from .recipes import triangular_spline_flow as triangular_spline_flow
from .tables import Schema as Schema
from .tables import TableDensity as TableDensity
from .tables import fit_table as fit_table
from .tables import infer_schema as infer_schema
from .training import Batch as Batch
from .training import Epoch as Epoch
from .training import Fit as Fit
from .training import TrainSettings as TrainSettings
from .training import fit as fit
from .training import negative_log_likelihood as negative_log_likelihood
from .training import train as train
from .training.auto import Choice as Choice
from .training.auto import choose as choose

if TYPE_CHECKING:  # these need scikit-learn, so the package imports them one by one
    from .estimators import FlowDensity as FlowDensity
    from .estimators import FlowOutlierDetector as FlowOutlierDetector
    from .estimators import PyODFlow as PyODFlow
