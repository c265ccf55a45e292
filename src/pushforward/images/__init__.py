"""Densities of images of bytes: dequantisation, training, uses."""

from .density import ImageDensity as ImageDensity
from .dequantization import VariationalDequantization as VariationalDequantization
from .encoding import ByteEncoding as ByteEncoding
from .encoding import byte_masses as byte_masses
from .fit import fit_images as fit_images
from .space import Images as Images
from .uses import inpaint as inpaint
from .uses import interpolate as interpolate
from .uses import nearest as nearest
from .uses import redraw_scales as redraw_scales
from .uses import typicality as typicality
