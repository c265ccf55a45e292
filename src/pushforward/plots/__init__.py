"""Pictures of flows, with matplotlib: densities, the map from latent to data, trainings, samples against data.

Every picture is `(..., ax=None) -> ax`, an array of axes where it has several panels: it draws into what is given (of
several panels an array of axes, or one that is divided), or makes a figure of pyplot, so that `plt.savefig` and
notebooks show it. `with without_pyplot():` makes figures that pyplot does not know and that need no display, as servers
want them. No setting of matplotlib is touched. Data and samples may be tensors or arrays, densities are in data units,
and draws use a fixed seed unless a generator is given.
"""

try:
    import matplotlib as _matplotlib  # noqa: F401
    import PIL as _PIL  # noqa: F401
except ImportError as error:
    raise ImportError('pictures need matplotlib and pillow: pip install "pushforward[plot]"') from error

from .history import history as history
from .images import has_scales as has_scales
from .images import images as images
from .images import interpolation as interpolation
from .images import scales as scales
from .pairs import marginals as marginals
from .pairs import pairs as pairs
from .panels import density as density
from .panels import four_panels as four_panels
from .panels import save_figure as save_figure
from .plane import plane as plane
from .style import has_map as has_map
from .style import without_pyplot as without_pyplot
from .warp import animate as animate
from .warp import warped_grid as warped_grid
