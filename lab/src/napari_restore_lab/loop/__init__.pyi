from ._checkpoint import State as State
from ._config import (
    Every as Every,
    ModelConfig as ModelConfig,
    OptimiserConfig as OptimiserConfig,
    ScoreConfig as ScoreConfig,
    TrainConfig as TrainConfig,
    config_of as config_of,
    load_config as load_config,
)
from ._learner import (
    Learner as Learner,
    choose_parameters as choose_parameters,
    learning_rate as learning_rate,
    make_network as make_network,
    make_optimiser as make_optimiser,
    set_up_staged as set_up_staged,
)
from ._log import NO_PLOT as NO_PLOT, Log as Log, LogSums as LogSums
from ._losses import (
    SMALL as SMALL,
    depth_in_display as depth_in_display,
    log_error as log_error,
    masked_l1 as masked_l1,
    objective_of as objective_of,
    small_outputs as small_outputs,
    spectral_l1 as spectral_l1,
    ssim as ssim,
)
from ._pictures import Pictures as Pictures, open_pictures as open_pictures
from ._score import Validator as Validator, sentence as sentence
from ._start import train as train
from ._table import fill as fill
from ._train import BEST as BEST, CHECKPOINT as CHECKPOINT, LOG as LOG, Control as Control
