"""Recipes: functions that build a whole flow and read like the paper they come from."""

from .build import IMAGE_RECIPES as IMAGE_RECIPES
from .build import RECIPES as RECIPES
from .images import check_levels as check_levels
from .images import check_shape as check_shape
from .images import glow as glow
from .images import padded_size as padded_size
from .images import patch_flow as patch_flow
from .images import real_nvp_image as real_nvp_image
from .multiscale import multiscale_spline_flow as multiscale_spline_flow
from .real_nvp import real_nvp as real_nvp
from .real_nvp import real_nvp_from_networks as real_nvp_from_networks
from .splines import autoregressive_spline_flow as autoregressive_spline_flow
from .splines import spline_flow as spline_flow
from .splines import triangular_spline_flow as triangular_spline_flow
