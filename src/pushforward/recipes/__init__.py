"""Recipes: functions that build a whole flow and read like the paper they come from."""

from .build import RECIPES as RECIPES
from .real_nvp import real_nvp as real_nvp
from .real_nvp import real_nvp_from_networks as real_nvp_from_networks
from .splines import spline_flow as spline_flow
from .splines import triangular_spline_flow as triangular_spline_flow
