"""Profiles of curves and a matrix in one pass: the values of LittleCMS."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow, ImageCms

from napari_restore.images.values.working_space import (
    converted,
    matrix_profile,
    profile_of_gamma,
    srgb_profile,
)

RNG = np.random.default_rng(7)
STEEP = np.linspace(0, 1, 900, dtype=np.float32) ** np.float32(1.8)
PROFILES = {
    "sRGB": bytes(imagecodecs.cms_profile("srgb")),
    "Adobe RGB": bytes(imagecodecs.cms_profile("adobergb")),
    "gamma 1.8, wide": bytes(
        imagecodecs.cms_profile(
            "rgb",
            whitepoint=[0.3457, 0.3585, 1.0],
            primaries=[0.7347, 0.2653, 1.0, 0.1596, 0.8404, 1.0, 0.0366, 0.0001, 1.0],
            gamma=1.8,
        )
    ),
    "table": bytes(
        imagecodecs.cms_profile(
            "rgb",
            whitepoint=[0.3127, 0.329, 1.0],
            primaries=[0.68, 0.32, 1.0, 0.265, 0.69, 1.0, 0.15, 0.06, 1.0],
            transferfunction=[STEEP, STEEP, STEEP],
        )
    ),
}


def colours() -> np.ndarray:
    """(3, n) uint8: all greys and random colours, many of them dark."""
    greys = np.repeat(np.arange(256)[None], 3, axis=0)
    some = RNG.integers(0, 256, (3, 4000))
    return np.concatenate([greys, some, some // 16], axis=1).astype(np.uint8)


def by_pillow(values: np.ndarray, source: bytes, target: bytes) -> np.ndarray:
    picture = Pillow.fromarray(np.ascontiguousarray(values.T)[None])
    profiles = (ImageCms.ImageCmsProfile(io.BytesIO(icc)) for icc in (source, target))
    # Its shortcut for 8 bits knows no more than 14 bits of light: too few for dark values.
    done = ImageCms.profileToProfile(picture, *profiles, flags=ImageCms.Flags.NOOPTIMIZE)
    assert done is not None
    return np.asarray(done)[0].T


@pytest.mark.parametrize("target", PROFILES)
@pytest.mark.parametrize("source", PROFILES)
def test_values_are_within_a_level_of_littlecms(
    source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, icc = colours(), (PROFILES[source], PROFILES[target])
    # LittleCMS is what curves and matrix are compared with once, and not used again.
    converted(values, *icc)
    with monkeypatch.context() as patch:
        patch.setattr(imagecodecs, "cms_transform", None)
        fast = converted(values, *icc) / 257
        wide = converted(values * np.uint16(257), *icc) / 257
    np.testing.assert_allclose(fast, by_pillow(values, *icc), atol=1)
    np.testing.assert_array_equal(wide, fast)


def test_dark_values_of_16_bits_are_those_of_littlecms() -> None:
    values = RNG.integers(0, 900, (3, 5000)).astype(np.uint16)
    adobe, table, srgb = PROFILES["Adobe RGB"], PROFILES["table"], srgb_profile()
    # Its inverse of a table has 4096 steps.
    for source, target, levels in ((adobe, srgb, 0.02), (srgb, adobe, 0.02), (table, srgb, 0.1)):
        expected = imagecodecs.cms_transform(
            np.ascontiguousarray(values.T[None]),
            source,
            target,
            colorspace="rgb",
            outcolorspace="rgb",
            outdtype=np.uint16,
            flags=0x0100,
        )[0].T
        found = converted(values, source, target)
        assert np.abs(found.astype(int) - expected).max() <= 257 * levels


def test_a_profile_of_tables_is_left_to_littlecms() -> None:
    icc = bytearray(PROFILES["Adobe RGB"])
    assert matrix_profile(bytes(icc)) is not None
    place = icc.index(b"rTRC", 128)
    icc[place : place + 4] = b"A2B0"
    assert matrix_profile(bytes(icc)) is None
    for size in (0, 100, 131, 140, 300):
        assert matrix_profile(PROFILES["Adobe RGB"][:size]) is None
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert matrix_profile(lab) is None


def test_a_curve_that_falls_is_left_to_littlecms() -> None:
    icc = bytearray(PROFILES["table"])
    place = icc.index(b"curv") + 12
    struct.pack_into(">H", icc, place + 200, 65535)
    assert matrix_profile(bytes(icc)) is None


def test_a_gamma_near_that_of_srgb_needs_no_profile():
    places = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    assert (
        profile_of_gamma((1 / 2.2,), 3) is None and profile_of_gamma((1 / 2.2, *places), 1) is None
    )
    assert profile_of_gamma((1 / 2.2, *places), 3) is not None
    assert profile_of_gamma((1 / 1.8,), 3) is not None and profile_of_gamma((11.0,), 3) is None
