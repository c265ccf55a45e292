"""Checks of a density: exactness, baselines to beat, calibration, two-sample tests, and a verdict from all of them."""

from .bijection import BijectionCheck as BijectionCheck
from .bijection import BijectionReport as BijectionReport
from .bijection import check_bijection as check_bijection
from .exact import exactness as exactness
from .report import Report as Report
from .report import Section as Section
from .run import check as check
from .run import held_out_likelihood as held_out_likelihood
