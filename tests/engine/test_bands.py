"""A model gets the bands it names, never a silent 1, 2, 3."""

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.engine.statistics.bands import model_bands
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
    with pytest.raises(UnknownBands, match=r"does not say which .*bands=\"red=N,green=N,blue=N\""):
        model_bands(image(13), card_of("haze-unet"))


def test_too_few_bands_are_no_question_of_names():
    with pytest.raises(UnknownBands, match=r"has only 2 bands\. Choose a model"):
        model_bands(image(2), card_of("haze-unet"))
    with pytest.raises(UnknownBands, match=r"has only 1 band\. Choose a model"):
        model_bands(image(1, "nir=1"), card_of("hot"))


def test_bands_that_are_all_named_are_not_asked_for_again():
    named = image(4, "swir=1,nir=2,red=3,green=4")
    with pytest.raises(UnknownBands, match=r"has no blue\. Choose a model that takes any bands"):
        model_bands(named, card_of("atmosphere-aerial"))
    notes = nr.plan(named, "dcp").notes
    assert "Of the 4 bands not all of red, green and blue are there; dcp uses all of them." in notes
    unnamed = "Not all roles of the 13 bands are known; dcp uses all of them."
    assert unnamed in nr.plan(image(13), "dcp").notes


def test_the_band_of_a_grey_photo_stands_for_all_of_a_model():
    assert model_bands(image(1), card_of("hot")) == (0, 0)
    assert model_bands(image(1), card_of("htm")) == (0,)
    assert model_bands(image(1, "gray=1"), card_of("haze-unet")) == (0, 0, 0)


def test_models_that_name_no_role_take_what_there_is():
    assert model_bands(image(1), card_of("dcp")) == (0,)
    assert model_bands(image(13), card_of("dcp")) == tuple(range(13))


def test_a_grey_photo_is_red_green_and_blue_alike():
    """Also with alpha, and not of a map: one band of that is red, say, or infrared."""
    assert model_bands(image(1), card_of("haze-unet")) == (0, 0, 0)
    assert model_bands(image(2, "gray=1,alpha=2"), card_of("atmosphere")) == (0, 0, 0)
    with pytest.raises(UnknownBands, match="has only 1 band"):
        model_bands(image(1, "nir=1"), card_of("haze-unet"))


@pytest.mark.parametrize("model", ["atmosphere", "haze-unet"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "haze-unet")
def test_a_grey_photo_is_restored_as_its_three_equal_bands(model):
    """The mean of what the model makes of them, on tiles as on the whole."""
    y, x = np.mgrid[:70, :90]
    grey = (0.3 + 0.3 * (1 + np.sin(x / 9) * np.cos(y / 7))).astype(np.float32)
    # Of the two, only three bands are a photo, which has an exposure of its own.
    options = {"progress": False, "device": "cpu", "exposure": 0}
    three = np.asarray(nr.restore(np.dstack([grey] * 3), model, **options))
    one = np.asarray(nr.restore(grey, model, tile=64, **options))
    np.testing.assert_allclose(one[..., 0], three.mean(axis=2), atol=1e-6)
    assert np.abs(one[..., 0] - grey).max() > 0.01
