from ._attention import AttentionKind, AttentionRow, AttentionSite, HeadOutputs, LayerTokens
from ._bottleneck_model import BottleneckModel, cut
from ._card import ModelCard, Parameter, Scope, Task, Value
from ._code import code_files
from ._content import changed_part, content_of, definition_of, identity_of
from ._context import BINS, BLOCK, Context
from ._context_pass import BlockStatistics, ContextPass, context_of, overview_factor
from ._layers import pad_to_multiple, reflected
from ._load import load
from ._model import (
    WITHOUT,
    RestorationModel,
    Statistics,
    ToModel,
    for_frames,
    one_shot_statistics,
    placed_at,
)
from ._named import Labelled, Named, label_of, load_named, named
from ._propose import Proposal, propose, write_card
from ._random_twin import RANDOM_WEIGHTS, random_twin
from ._registry import (
    ModelEntry,
    card_of,
    entry_of,
    is_ready,
    model_ids,
    recommended,
    resolve,
    ships,
)
from ._routing import Routing
from ._script import factories_in
from ._spectral import HAZE_EXPONENT, correct_band, transmission_at
from ._steps import (
    RESTORED,
    Counts,
    Map,
    Shapes,
    Steps,
    Sums,
    Sweep,
    SweepInput,
    WholeStep,
    cell_weights,
)
from ._sweeps import SweptModel, run_steps
from ._weights import fill, read_state, sha256_of_file, sha256_of_state
from ._wrap import WrappedModel

__all__ = [
    "BINS",
    "BLOCK",
    "HAZE_EXPONENT",
    "RANDOM_WEIGHTS",
    "RESTORED",
    "WITHOUT",
    "AttentionKind",
    "AttentionRow",
    "AttentionSite",
    "BlockStatistics",
    "BottleneckModel",
    "Context",
    "ContextPass",
    "Counts",
    "HeadOutputs",
    "Labelled",
    "LayerTokens",
    "Map",
    "ModelCard",
    "ModelEntry",
    "Named",
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
    "ToModel",
    "Value",
    "WholeStep",
    "WrappedModel",
    "card_of",
    "cell_weights",
    "changed_part",
    "code_files",
    "content_of",
    "context_of",
    "correct_band",
    "cut",
    "definition_of",
    "entry_of",
    "factories_in",
    "fill",
    "for_frames",
    "identity_of",
    "is_ready",
    "label_of",
    "load",
    "load_named",
    "model_ids",
    "named",
    "one_shot_statistics",
    "overview_factor",
    "pad_to_multiple",
    "placed_at",
    "propose",
    "random_twin",
    "read_state",
    "recommended",
    "reflected",
    "resolve",
    "run_steps",
    "sha256_of_file",
    "sha256_of_state",
    "ships",
    "transmission_at",
    "write_card",
]
