"""The threads that computations are divided among, as on another machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch

from napari_restore.engine.machine._device import assume_cores, cores


@dataclass(frozen=True)
class Threads:
    """Numbers of threads of a process: sums that are divided among as many have the same bits."""

    cores: int
    torch: int

    @classmethod
    def of_process(cls) -> Self:
        """Return those of this process."""
        return cls(cores(), torch.get_num_threads())

    @contextmanager
    def used(self) -> Iterator[None]:
        """Compute with as many; for one thread of a process at a time."""
        before = torch.get_num_threads()
        assume_cores(self.cores)
        torch.set_num_threads(self.torch)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            assume_cores(None)
