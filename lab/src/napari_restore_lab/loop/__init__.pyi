from ._checkpoint import State
from ._config import (
    Every,
    ModelConfig,
    OptimiserConfig,
    ScoreConfig,
    TrainConfig,
    config_of,
    load_config,
)
from ._learner import (
    Learner,
    choose_parameters,
    learning_rate,
    make_network,
    make_optimiser,
    set_up_staged,
)
from ._log import NO_PLOT, Log, LogSums
from ._losses import (
    SMALL,
    depth_in_display,
    log_error,
    masked_l1,
    objective_of,
    small_outputs,
    spectral_l1,
    ssim,
)
from ._pictures import Pictures, open_pictures
from ._score import Validator, sentence
from ._start import train
from ._table import fill
from ._train import BEST, CHECKPOINT, LOG, Control

__all__ = [
    "BEST",
    "CHECKPOINT",
    "LOG",
    "NO_PLOT",
    "SMALL",
    "Control",
    "Every",
    "Learner",
    "Log",
    "LogSums",
    "ModelConfig",
    "OptimiserConfig",
    "Pictures",
    "ScoreConfig",
    "State",
    "TrainConfig",
    "Validator",
    "choose_parameters",
    "config_of",
    "depth_in_display",
    "fill",
    "learning_rate",
    "load_config",
    "log_error",
    "make_network",
    "make_optimiser",
    "masked_l1",
    "objective_of",
    "open_pictures",
    "sentence",
    "set_up_staged",
    "small_outputs",
    "spectral_l1",
    "ssim",
    "train",
]
