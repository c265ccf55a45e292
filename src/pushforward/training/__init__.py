"""Maximum-likelihood training: `train` is a generator of epochs, `fit` exhausts it."""

from .loop import Fit as Fit
from .loop import fit as fit
from .loop import train as train
from .run import Epoch as Epoch
