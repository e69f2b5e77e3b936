"""Fixtures of the lab's tests: those of napari-restore's."""

from tests.cli.conftest import cli, costs_are_known, ctrl_c_at, scene
from tests.conftest import *  # noqa: F403
from tests.engine.executors.conftest import cluster
