"""Naming a cluster, and what is shown of it."""

from __future__ import annotations

from typing import Any

import pytest

from napari_restore.errors import BadParameter
from napari_restore.plugin.method.advanced_form import ClusterForm
from napari_restore.plugin.state.request import ConnectedCluster, Workers

CLUSTER = ConnectedCluster(None, "tcp://host:8786", 4, 2**30, "http://host:8787/status")  # type: ignore[arg-type]


@pytest.fixture
def form(qtbot: Any) -> ClusterForm:
    form = ClusterForm()
    qtbot.addWidget(form)
    form.show()
    return form


def test_a_name_is_asked_for_only_after_a_click(form: ClusterForm) -> None:
    assert not form.name.isVisible()
    form.button.click()
    assert form.name.isVisible() and form.connection.text() == "Connect"
    asked: list[str] = []
    form.connect_requested.connect(asked.append)
    form.connection.click()
    assert asked == [] and "local:2" in form.line.text()
    form.name.setText("  local:2 ")
    form.connection.click()
    assert asked == ["local:2"]


def test_a_connection_that_is_made_can_be_given_up(form: ClusterForm) -> None:
    left: list[bool] = []
    form.disconnect_requested.connect(lambda: left.append(True))
    form.show_connecting("local:2")
    assert form.line.text() == "Connecting …" and form.name.isReadOnly()
    assert form.connection.text() == "Cancel"
    form.connection.click()
    assert left


def test_a_connection_shows_workers_and_dashboard(form: ClusterForm) -> None:
    form.show_connected(CLUSTER, Workers(1, 4, False))
    assert "1 worker, 4 threads" in form.line.text()
    assert '<a href="http://host:8787/status">' in form.line.text()
    assert form.name.isVisible() and form.name.text() == "tcp://host:8786"
    assert form.connection.text() == "Disconnect"
    form.show_running(True)
    assert not form.connection.isEnabled()
    form.show_running(False)
    assert form.connection.isEnabled()


def test_why_there_is_no_connection_is_no_markup(form: ClusterForm) -> None:
    form.show_connecting("<b>")
    form.show_disconnected(BadParameter("'<b>' is no cluster.", "Use local:N."))
    assert form.line.text() == "&#x27;&lt;b&gt;&#x27; is no cluster. Use local:N."
    assert form.connection.text() == "Connect" and not form.name.isReadOnly()
