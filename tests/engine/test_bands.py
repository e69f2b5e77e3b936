"""A model gets the bands it names, never a silent 1, 2, 3."""

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.engine.statistics._bands import model_bands
from napari_restore.errors import UnknownBands
from napari_restore.models import card_of


def image(count, bands=None):
    return nr.open_image(np.zeros((40, 50, count), np.uint8), bands=bands)


def test_named_roles_come_first_and_in_the_models_order():
    opened = image(4, "blue=1,green=2,red=3,nir=4")
    assert model_bands(opened, card_of("haze-unet")) == (2, 1, 0)
    assert model_bands(opened, card_of("hot")) == (0, 2, 1, 3)
    assert model_bands(opened, card_of("dcp")) == (0, 1, 2)


def test_unknown_roles_are_asked_for_with_the_option_to_copy():
    with pytest.raises(UnknownBands, match=r"does not say which .*bands=\"red=1,green=2,blue=3\""):
        model_bands(image(13), card_of("haze-unet"))


def test_too_few_bands_are_no_question_of_names():
    with pytest.raises(UnknownBands, match=r"has only 2 bands\. Choose a model"):
        model_bands(image(2), card_of("haze-unet"))
    with pytest.raises(UnknownBands, match=r"has only 1 band\. Choose a model"):
        model_bands(image(1, "nir=1"), card_of("hot"))


def test_the_band_of_a_grey_photo_stands_for_all_of_a_model():
    assert model_bands(image(1), card_of("hot")) == (0, 0)
    assert model_bands(image(1), card_of("htm")) == (0,)
    assert model_bands(image(1, "gray=1"), card_of("haze-unet")) == (0, 0, 0)


def test_models_that_name_no_role_take_what_there_is():
    assert model_bands(image(1), card_of("dcp")) == (0,)
    assert model_bands(image(13), card_of("dcp")) == tuple(range(13))
