"""A cluster for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import napari_restore as nr
from napari_restore.engine import Cluster

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two workers on threads of this process: a real scheduler, but no start of Python."""
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            dashboard_address=":0",
            protocol="tcp",
        ) as own,
        distributed.Client(own) as client,
    ):
        yield nr.connect(client)
