"""Densities of images of bytes: dequantisation, training, uses."""

from .density import ImageDensity as ImageDensity
from .fit import fit_images as fit_images
from .space import Images as Images
