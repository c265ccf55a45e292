"""Simple densities over a tensor (B, M + C) of M states and C numbers: what a flow has to beat.

They are fitted in closed form, by EM or by scikit-learn and kept as tensors, so that they save, load and sample like
any other density. Numbers that are NaN are not there: they are integrated out.
"""

from .base import Baseline as Baseline
from .classes import LatentClasses as LatentClasses
from .classes import fit_latent_classes as fit_latent_classes
from .fit import fit_baselines as fit_baselines
from .frequencies import Frequencies as Frequencies
from .frequencies import fit_frequencies as fit_frequencies
from .gaussian import GaussianMixtureDensity as GaussianMixtureDensity
from .gaussian import fit_gaussian as fit_gaussian
from .gaussian import fit_gaussian_mixture as fit_gaussian_mixture
from .gaussian import fit_shrunk_gaussian as fit_shrunk_gaussian
from .independent import Independent as Independent
from .kernel import MixedKernel as MixedKernel
from .kernel import fit_kernel as fit_kernel
from .kernel import fit_mixed_kernel as fit_mixed_kernel
