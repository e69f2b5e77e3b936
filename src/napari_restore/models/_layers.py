"""Layers whose sums do not depend on threads or on the size of an image; padding; light of display values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle


class Pointwise(nn.Conv2d):
    """`Conv2d(inputs, outputs, 1)`, computed by the same kernel whatever the number of threads."""

    # PyTorch 2.13 leaves 1 × 1 convolutions of one image to a native kernel on one thread and to
    # oneDNN on several, and their sums differ in the last bit. A dilation does not change a kernel
    # of one pixel, but always selects oneDNN.
    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, dilation=2, bias=bias)


_TAPS = ((3, 1, None), (None, 2, 0))
"""Kernel rows of an even and of an odd output row, for the input row above, at and below it."""


class Doubling(nn.ConvTranspose2d):
    """`ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)`, with its weights, as a convolution."""

    # Each of the four output pixels of an input pixel is a 3 × 3 convolution: together 4 ·
    # `outputs` channels that are rearranged. On processors with AVX-512, oneDNN 3.12 sums
    # transposed convolutions to few channels in an order that depends on the picture's shape and
    # the number of threads, so that tiles and the whole differ in the last bit; its convolutions do
    # not.
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert self.bias is not None
        if is_exporting():
            # As other programs know it.
            return super().forward(x)
        # Channels last again: the kernel depends on the memory layout.
        kernel = self._kernel().contiguous(memory_format=torch.channels_last)
        four = conv2d(x, kernel, self.bias.repeat_interleave(4), padding=1)
        return pixel_shuffle(four, 2)

    def _kernel(self) -> Tensor:
        """Return (4 · outputs, inputs, 3, 3), in the order `pixel_shuffle` takes channels in."""
        padded = nn.functional.pad(self.weight, (0, 1, 0, 1))
        rows = torch.tensor([[4 if tap is None else tap for tap in row] for row in _TAPS])
        # (inputs, outputs, 2, 3, 2, 3): parity of the row, its taps; the same of columns.
        taken = padded[:, :, rows][..., rows]
        return taken.permute(1, 2, 4, 0, 3, 5).reshape(-1, self.in_channels, 3, 3)


LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in luminance (Rec. ITU-R BT.709-6)."""


def light_of_display(display: Tensor) -> Tensor:
    """Return linear light of display values (sRGB, IEC 61966-2-1), both limited to 0 … 1."""
    shown = display.clamp(0, 1)
    return torch.where(shown > 0.04045, ((shown + 0.055) / 1.055) ** 2.4, shown / 12.92)


def is_exporting() -> bool:
    """Return whether a graph for other programs is being made: it must hold for images of any size."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def pad_to_multiple(x: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """Return `x` (N, C, H, W) grown at bottom and right until both sides are multiples."""
    # The image is reflected, as often as needed for images smaller than the padding; only pixels
    # that exist are repeated, so an edge tile is padded like the whole.
    for axis in (2, 3):
        length = x.shape[axis]
        wanted = -(-max(length, smallest) // multiple) * multiple
        if wanted != length:
            x = x.index_select(axis, reflected(length, wanted, x.device))
    return x


def reflected(length: int, wanted: int, device: torch.device, before: int = 0) -> Tensor:
    """Return indices 0 … length − 1 … 0 … of `wanted` entries, edges not repeated."""
    period = max(1, 2 * (length - 1))
    index = (torch.arange(wanted, device=device) - before) % period
    return torch.where(index < length, index, period - index)


def to_windows(x: Tensor, window: int) -> Tensor:
    """Return windows (N · H/window · W/window, window², C) of maps (N, H, W, C), row by row."""
    count, height, width, channels = x.shape
    split = x.reshape(count, height // window, window, width // window, window, channels)
    return split.transpose(2, 3).reshape(-1, window * window, channels)


def shift_mask(
    shape: tuple[int, int], window: int, shift: int, device: torch.device | None = None
) -> Tensor:
    """Return the pairs that shifted windows must not connect: (windows, window², window²) bool.

    A map of `shape` (H, W) that was rolled by `shift` ends with its first rows and columns; these are
    regions of their own.
    """
    lines = ((length, torch.arange(length, device=device)) for length in shape)
    down, along = (
        (line >= length - window).int() + (line >= length - shift).int() for length, line in lines
    )
    tokens = to_windows((3 * down[:, None] + along)[None, :, :, None], window)[..., 0]
    return tokens[:, :, None] != tokens[:, None]


def from_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Return the maps (N, H, W, C) whose windows these are."""
    channels = windows.shape[-1]
    split = windows.reshape(-1, height // window, width // window, window, window, channels)
    return split.transpose(2, 3).reshape(-1, height, width, channels)
