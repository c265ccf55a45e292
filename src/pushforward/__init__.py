"""pushforward: exact densities from samples, by normalizing flows in PyTorch."""

from ._run import Epoch as Epoch
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
from .bijections import Standardize as Standardize
from .elementwise import Affine as Affine
from .elementwise import Elementwise as Elementwise
from .elementwise import Shift as Shift
from .flow import Flow as Flow
from .flow import initialize as initialize
from .models import real_nvp as real_nvp
from .models import real_nvp_from_networks as real_nvp_from_networks
from .nets import MLP as MLP
from .nets import StandardizeContext as StandardizeContext
from .serialize import load as load
from .serialize import save as save
from .train import Fit as Fit
from .train import fit as fit
from .train import train as train

__version__ = "0.1.0"
