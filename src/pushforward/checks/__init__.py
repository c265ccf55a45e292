"""Checks of a density: what may be done with it, and the evidence: likelihood, calibration, samples, privacy, ..."""

from .bijection import BijectionCheck as BijectionCheck
from .bijection import BijectionReport as BijectionReport
from .bijection import check_bijection as check_bijection
from .exact import exactness as exactness
from .report import Report as Report
from .report import Section as Section
from .run import check as check
from .thresholds import Answer as Answer
from .thresholds import Finding as Finding
