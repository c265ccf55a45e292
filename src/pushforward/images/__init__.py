"""Densities of images of bytes: dequantisation, training, uses."""

from .density import ImageDensity as ImageDensity
from .space import Images as Images
