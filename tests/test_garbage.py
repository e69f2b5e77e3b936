"""Garbage is collected seldom while libraries are loaded, and as usual afterwards."""

from __future__ import annotations

import gc

import pytest

from napari_restore._heap import collect_seldom, collection_paused
from napari_restore.commands import Interrupt


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


def test_a_command_collects_as_usual_from_its_long_part_on():
    usual, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        collect_seldom()
        assert gc.get_threshold()[0] > usual[0] and gc.isenabled()
        Interrupt().watch(None)
        assert gc.get_threshold() == usual
        assert gc.get_freeze_count() > frozen
        gc.set_threshold(usual[0] + 1, *usual[1:])
        Interrupt().watch(None)
        assert gc.get_threshold()[0] == usual[0] + 1
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
