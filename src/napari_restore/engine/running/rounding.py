"""Error of storing maps in fewer bits."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable

import torch
from torch import Tensor

_AT_ONCE = 1 << 20
"""Values compared at once: what fits a cache."""


class Rounding:
    """The largest error of rounding to `dtype`, over all tensors noted. Thread safe."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._lock = threading.Lock()
        self._error = self._largest = torch.zeros(())

    @property
    def relative(self) -> float:
        """Largest |rounded - value| relative to the largest |value|; 0.0 if exact, infinite beyond the dtype."""
        error, largest = float(self._error), float(self._largest)
        return error / largest if error else 0.0

    @property
    def measured(self) -> tuple[float, float]:
        """Largest |rounded - value|, and largest |value| that was rounded."""
        return float(self._error), float(self._largest)

    def add(self, error: float, largest: float) -> None:
        """Take in what another process has `measured`."""
        with self._lock:
            self._error = torch.maximum(self._error, self._error.new_tensor(error))
            self._largest = torch.maximum(self._largest, self._largest.new_tensor(largest))

    def note(self, tensors: Iterable[Tensor]) -> None:
        """Measure tensors, (C, ...) each, that are about to be rounded."""
        for tensor in tensors:
            if torch.promote_types(tensor.dtype, self._dtype) == self._dtype:
                continue
            exact = torch.promote_types(tensor.dtype, torch.float32)
            error = largest = torch.zeros((), dtype=exact, device=tensor.device)
            planes = max(1, _AT_ONCE // max(1, tensor[0].numel()))
            for part in torch.split(tensor.detach(), planes):
                values = part.to(exact)
                off = (values.to(self._dtype).to(exact) - values).abs()
                # NaN before and after: nothing was lost there.
                off.nan_to_num_(nan=0.0, posinf=math.inf)
                error = torch.maximum(error, off.amax())
                size = values.abs().nan_to_num_(nan=0.0, posinf=0.0)
                largest = torch.maximum(largest, size.amax())
            with self._lock:
                # They stay on the device: reading them here would wait for it.
                self._error = torch.maximum(self._error.to(error), error)
                self._largest = torch.maximum(self._largest.to(largest), largest)
