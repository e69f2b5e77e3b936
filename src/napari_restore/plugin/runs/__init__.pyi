from ._batch_section import BatchSection, folder_arguments
from ._draft import Viewport, first_step, live_steps, scaled_parameters
from ._layer_run import LayerRun, RunLayers, drafts_in
from ._plan_controller import PlanController
from ._run_bar import RunBar
from ._run_controller import RunController

__all__ = [
    "BatchSection",
    "LayerRun",
    "PlanController",
    "RunBar",
    "RunController",
    "RunLayers",
    "Viewport",
    "drafts_in",
    "first_step",
    "folder_arguments",
    "live_steps",
    "scaled_parameters",
]
