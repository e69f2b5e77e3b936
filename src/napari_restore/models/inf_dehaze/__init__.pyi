from ._blocks import ConvNeXtBlock, SwinBlock, WindowAttention, blocks_of
from ._bottleneck import BALANCE, Bottleneck, Expert, LMMoE, balance_loss, channel_means, pieces
from ._cards import DEEPEST, ENTRIES
from ._config import FAST, LITE, PAPER, RELEASED, SMALL, InfDehazeConfig
from ._head import AIRLIGHT, DETAIL, FADE, HazeHead, restored, spline
from ._ibssa import IBSSA, FullAttention, HeadwiseAttention
from ._network import Decoder, Encoder, InfDehaze
from ._release import renamed, sizes_of, sizes_of_small
from ._rows import column_of, kept_of, output_of, outputs_of, row_of
from ._sfca import HEADS, INNER, SpatialFrequencyAttention, frequency_bands, radii
from ._stages import PatchEmbed, PatchExpand, PatchMerging

__all__ = [
    "AIRLIGHT",
    "BALANCE",
    "DEEPEST",
    "DETAIL",
    "ENTRIES",
    "FADE",
    "FAST",
    "HEADS",
    "IBSSA",
    "INNER",
    "LITE",
    "PAPER",
    "RELEASED",
    "SMALL",
    "Bottleneck",
    "ConvNeXtBlock",
    "Decoder",
    "Encoder",
    "Expert",
    "FullAttention",
    "HazeHead",
    "HeadwiseAttention",
    "InfDehaze",
    "InfDehazeConfig",
    "LMMoE",
    "PatchEmbed",
    "PatchExpand",
    "PatchMerging",
    "SpatialFrequencyAttention",
    "SwinBlock",
    "WindowAttention",
    "balance_loss",
    "blocks_of",
    "channel_means",
    "column_of",
    "frequency_bands",
    "kept_of",
    "output_of",
    "outputs_of",
    "pieces",
    "radii",
    "renamed",
    "restored",
    "row_of",
    "sizes_of",
    "sizes_of_small",
    "spline",
]
