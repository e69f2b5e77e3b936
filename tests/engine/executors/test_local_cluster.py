"""The processes of `local:N`: theirs is the work of who started them, and of nobody else."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import URLError

import psutil
import pytest

from napari_restore import connect

pytestmark = pytest.mark.slow
pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with connect("local:1") as cluster:
        assert cluster.threads()
        yield cluster


def ports() -> list[tuple[str, int]]:
    """Return where this process and its children listen."""
    here = psutil.Process()
    found = [each for one in (here, *here.children(True)) for each in one.net_connections("tcp")]
    return [tuple(each.laddr) for each in found if each.status == psutil.CONN_LISTEN]


def test_nothing_listens_to_other_machines(cluster: Any) -> None:
    assert ports() and {host for host, _ in ports()} == {"127.0.0.1"}


def test_work_without_the_certificate_of_the_run_is_refused(cluster: Any) -> None:
    import distributed

    address = cluster.client.scheduler.address
    assert address.startswith("tls://")
    strangers = distributed.Security.temporary()
    for place, security in ((address, strangers), (address.replace("tls:", "tcp:"), None)):
        with pytest.raises((OSError, ssl.SSLError)):
            distributed.Client(place, security=security, timeout="3s", set_as_default=False)
    assert cluster.client.submit(sum, [1, 2]).result(30) == 3


def test_no_page_is_served(cluster: Any) -> None:
    for host, port in ports():
        for page in ("status", "info/main/workers.html", "json/identity.json", "metrics"):
            with pytest.raises((URLError, OSError)):
                urllib.request.urlopen(f"http://{host}:{port}/{page}", timeout=3)
