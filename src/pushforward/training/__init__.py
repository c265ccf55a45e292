"""Training: `train` is a generator of epochs, `fit` exhausts it; objectives, optimizers and settings are arguments."""

from .fit import fit as fit
from .loop import train as train
from .objective import Batch as Batch
from .objective import Objective as Objective
from .objective import negative_log_likelihood as negative_log_likelihood
from .progress import Epoch as Epoch
from .progress import Fit as Fit
from .settings import TrainSettings as TrainSettings
