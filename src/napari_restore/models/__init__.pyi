from ._adapted import inputs_in_words
from ._attention import (
    AttentionKind,
    AttentionRow,
    AttentionSite,
    HeadOutputs,
    LayerTokens,
    relative_index,
)
from ._attention_calls import AttentionCall, AttentionCalls
from ._bottleneck_model import BottleneckModel, cut, stitch
from ._card import MOST_SCALE, MOST_SHRINK, ModelCard, Parameter, Scope, Task, Value, is_scale
from ._code import code_digest, code_files, is_script
from ._content import changed_part, content_of, definition_of, identity_of
from ._context import (
    BINS,
    BLOCK,
    BlockStatistics,
    Context,
    ContextPass,
    context_of,
    overview_factor,
)
from ._exposure_curves import pairs_of, sampled_values
from ._frozen import frozen_copy, is_frozen
from ._known import known_network
from ._layers import from_windows, pad_to_multiple, reflected, to_windows
from ._load import RANDOM_WEIGHTS, keep_sizes, load, random_twin, shipped_weights
from ._model import (
    WITHOUT,
    RestorationModel,
    Statistics,
    ToModel,
    example_image,
    for_frames,
    one_shot_statistics,
    placed_at,
)
from ._named import Labelled, Named, label_of, load_named, named
from ._onnx import OnnxNetwork, network_in, sloped
from ._own_attention import OwnAttention
from ._program import TorchProgram, windows_along
from ._propose import Proposal, propose, write_card
from ._registry import (
    ModelEntry,
    card_of,
    entry_of,
    is_ready,
    model_ids,
    resolve,
    structures,
)
from ._scaled import OnInputGrid, OnOutputGrid, on_input_grid, on_output_grid, resampled, unpacked
from ._script import factories_in, run_script
from ._spectral import HAZE_EXPONENT, correct_band, path_limit, transmission_at
from ._steps import (
    RESTORED,
    Counts,
    Map,
    Routing,
    Shapes,
    Steps,
    Sums,
    Sweep,
    SweepInput,
    Tick,
    WholeStep,
    cell_weights,
)
from ._sweeps import SweptModel, run_steps
from ._undisturbed import undisturbed
from ._weights import fill, first_line, randomise, read_state, sha256_of_file, sha256_of_state
from ._wrap import WrappedModel
from .traced.model import CutModel, cut_into_sweeps
from .traced.trace import Uncut

__all__ = [
    "BINS",
    "BLOCK",
    "HAZE_EXPONENT",
    "MOST_SCALE",
    "MOST_SHRINK",
    "RANDOM_WEIGHTS",
    "RESTORED",
    "WITHOUT",
    "AttentionCall",
    "AttentionCalls",
    "AttentionKind",
    "AttentionRow",
    "AttentionSite",
    "BlockStatistics",
    "BottleneckModel",
    "Context",
    "ContextPass",
    "Counts",
    "CutModel",
    "HeadOutputs",
    "Labelled",
    "LayerTokens",
    "Map",
    "ModelCard",
    "ModelEntry",
    "Named",
    "OnInputGrid",
    "OnOutputGrid",
    "OnnxNetwork",
    "OwnAttention",
    "Parameter",
    "Proposal",
    "RestorationModel",
    "Routing",
    "Scope",
    "Shapes",
    "Statistics",
    "Steps",
    "Sums",
    "Sweep",
    "SweepInput",
    "SweptModel",
    "Task",
    "Tick",
    "ToModel",
    "TorchProgram",
    "Uncut",
    "Value",
    "WholeStep",
    "WrappedModel",
    "card_of",
    "cell_weights",
    "changed_part",
    "code_digest",
    "code_files",
    "content_of",
    "context_of",
    "correct_band",
    "cut",
    "cut_into_sweeps",
    "definition_of",
    "entry_of",
    "example_image",
    "factories_in",
    "fill",
    "first_line",
    "for_frames",
    "from_windows",
    "frozen_copy",
    "identity_of",
    "inputs_in_words",
    "is_frozen",
    "is_ready",
    "is_scale",
    "is_script",
    "keep_sizes",
    "known_network",
    "label_of",
    "load",
    "load_named",
    "model_ids",
    "named",
    "network_in",
    "on_input_grid",
    "on_output_grid",
    "one_shot_statistics",
    "overview_factor",
    "pad_to_multiple",
    "pairs_of",
    "path_limit",
    "placed_at",
    "propose",
    "random_twin",
    "randomise",
    "read_state",
    "reflected",
    "relative_index",
    "resampled",
    "resolve",
    "run_script",
    "run_steps",
    "sampled_values",
    "sha256_of_file",
    "sha256_of_state",
    "shipped_weights",
    "sloped",
    "stitch",
    "structures",
    "to_windows",
    "transmission_at",
    "undisturbed",
    "unpacked",
    "windows_along",
    "write_card",
]
