from ._adapted import inputs_in_words as inputs_in_words
from ._attention import (
    AttentionKind as AttentionKind,
    AttentionRow as AttentionRow,
    AttentionSite as AttentionSite,
    HeadOutputs as HeadOutputs,
    LayerTokens as LayerTokens,
    relative_index as relative_index,
)
from ._attention_calls import AttentionCall as AttentionCall, AttentionCalls as AttentionCalls
from ._bottleneck_model import BottleneckModel as BottleneckModel, cut as cut, stitch as stitch
from ._card import (
    MOST_SCALE as MOST_SCALE,
    MOST_SHRINK as MOST_SHRINK,
    ModelCard as ModelCard,
    Parameter as Parameter,
    Scope as Scope,
    Task as Task,
    Value as Value,
    is_scale as is_scale,
)
from ._code import code_digest as code_digest, code_files as code_files, is_script as is_script
from ._content import (
    changed_part as changed_part,
    content_of as content_of,
    definition_of as definition_of,
    identity_of as identity_of,
)
from ._context import (
    BINS as BINS,
    BLOCK as BLOCK,
    BlockStatistics as BlockStatistics,
    Context as Context,
    ContextPass as ContextPass,
    context_of as context_of,
    overview_factor as overview_factor,
)
from ._exposure_curves import pairs_of as pairs_of, sampled_values as sampled_values
from ._frozen import frozen_copy as frozen_copy, is_frozen as is_frozen
from ._known import known_network as known_network
from ._layers import (
    from_windows as from_windows,
    pad_to_multiple as pad_to_multiple,
    reflected as reflected,
    to_windows as to_windows,
)
from ._load import (
    RANDOM_WEIGHTS as RANDOM_WEIGHTS,
    keep_sizes as keep_sizes,
    load as load,
    random_twin as random_twin,
    shipped_weights as shipped_weights,
)
from ._model import (
    RestorationModel as RestorationModel,
    Statistics as Statistics,
    ToModel as ToModel,
    example_image as example_image,
    for_frames as for_frames,
    one_shot_statistics as one_shot_statistics,
    placed_at as placed_at,
)
from ._named import (
    Labelled as Labelled,
    Named as Named,
    label_of as label_of,
    load_named as load_named,
    named as named,
)
from ._onnx import network_in as network_in, sloped as sloped
from ._own_attention import OwnAttention as OwnAttention
from ._program import TorchProgram as TorchProgram, windows_along as windows_along
from ._propose import Proposal as Proposal, propose as propose, write_card as write_card
from ._reach import Reach as Reach
from ._registry import (
    ModelEntry as ModelEntry,
    card_of as card_of,
    entry_of as entry_of,
    is_ready as is_ready,
    model_ids as model_ids,
    resolve as resolve,
    structures as structures,
)
from ._scaled import (
    OnInputGrid as OnInputGrid,
    OnOutputGrid as OnOutputGrid,
    on_input_grid as on_input_grid,
    on_output_grid as on_output_grid,
    resampled as resampled,
    unpacked as unpacked,
)
from ._script import factories_in as factories_in, run_script as run_script
from ._spectral import (
    DEADBAND as DEADBAND,
    HAZE_EXPONENT as HAZE_EXPONENT,
    correct_band as correct_band,
    path_limit as path_limit,
    transmission_at as transmission_at,
)
from ._steps import (
    RESTORED as RESTORED,
    Counts as Counts,
    Map as Map,
    Routing as Routing,
    Shapes as Shapes,
    Steps as Steps,
    Sums as Sums,
    Sweep as Sweep,
    SweepInput as SweepInput,
    Tick as Tick,
    WholeStep as WholeStep,
    cell_weights as cell_weights,
)
from ._sweeps import SweptModel as SweptModel, run_steps as run_steps
from ._undisturbed import undisturbed as undisturbed
from ._weights import (
    fill as fill,
    first_line as first_line,
    randomise as randomise,
    read_state as read_state,
    sha256_of_file as sha256_of_file,
    sha256_of_state as sha256_of_state,
)
from ._wrap import WrappedModel as WrappedModel
from .traced.model import CutModel as CutModel, cut_into_sweeps as cut_into_sweeps
from .traced.trace import Uncut as Uncut
