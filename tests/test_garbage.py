"""The garbage collector is paused inside of the block only."""

from __future__ import annotations

import gc

import pytest

from napari_restore._garbage import collection_paused


@pytest.mark.parametrize("before", [True, False])
def test_it_is_as_it_was_also_after_an_error(before):
    was = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with pytest.raises(ValueError), collection_paused():
            assert not gc.isenabled()
            with collection_paused():
                pass
            assert not gc.isenabled()
            raise ValueError
        assert gc.isenabled() is before
    finally:
        (gc.enable if was else gc.disable)()
