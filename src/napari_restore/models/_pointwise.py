"""A 1 × 1 convolution that rounds alike on one thread and on many."""

from __future__ import annotations

from torch import nn


class Pointwise(nn.Conv2d):
    """`Conv2d(inputs, outputs, 1)`, computed by the same kernel whatever the number of threads.

    PyTorch 2.13 leaves 1 × 1 convolutions of one image to a native kernel on one thread and to
    oneDNN on several, and their sums differ in the last bit. A dilation does not change a kernel of
    one pixel, but always selects oneDNN.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, dilation=2, bias=bias)
