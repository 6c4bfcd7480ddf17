"""Cutouts are drawn as they are, and damaged ones are no error."""

from __future__ import annotations

import gzip
import io

import matplotlib.image
import numpy as np
import pytest
from astropy.io import fits

from ampel_spark.t3.stamps import KINDS, pixels, stamps


def image(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    fits.PrimaryHDU(values.astype(np.float32)).writeto(stream)
    return gzip.compress(stream.getvalue(), mtime=0)


@pytest.fixture
def source() -> np.ndarray:
    """A source of Gaussian shape on a sky of 100 counts, low and to the left."""
    y, x = np.mgrid[:63, :63]
    return 100.0 + 50.0 * np.exp(-((x - 15) ** 2 + (y - 20) ** 2) / 18.0)


def test_pixels_are_those_of_the_fits_file(source: np.ndarray) -> None:
    found = pixels(image(source))
    assert found is not None
    assert np.allclose(found, source, rtol=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="nothing"),
        pytest.param(b"", id="empty"),
        pytest.param(b"junk", id="not packed"),
        pytest.param(gzip.compress(b"junk"), id="not FITS"),
        pytest.param(image(np.zeros((5, 5)))[:40], id="cut short"),
        pytest.param(image(np.zeros(9)), id="a row of pixels"),
    ],
)
def test_what_is_no_image_is_none(data: bytes | None) -> None:
    assert pixels(data) is None
    assert stamps({"science": data}) == b""


def test_a_first_card_in_a_form_of_its_own_is_read_without_a_warning(source: np.ndarray) -> None:
    """As real cutouts have it; astropy warns of it."""
    usual = b"SIMPLE  =                    T"
    raw = gzip.decompress(image(source))
    assert raw.startswith(usual)
    read = pixels(gzip.compress(raw.replace(usual, b"SIMPLE  = T".ljust(len(usual)), 1)))
    assert read is not None
    np.testing.assert_array_equal(read, source.astype(np.float32))


def test_the_brightest_pixels_are_drawn_where_the_source_is(source: np.ndarray) -> None:
    drawn = stamps({kind: image(source) for kind in KINDS[:2]})
    assert drawn == stamps({kind: image(source) for kind in KINDS[:2]})
    picture = matplotlib.image.imread(io.BytesIO(drawn))[:, :, 0]
    height, width = picture.shape
    science = picture[int(0.2 * height) :, int(0.05 * width) : int(0.28 * width)]
    y, x = np.unravel_index(np.argmax(science), science.shape)
    # the origin is at the lower left
    assert x < 0.45 * science.shape[1]
    assert y > 0.5 * science.shape[0]


def test_an_image_of_one_value_or_of_none_is_drawn() -> None:
    nothing = np.full((9, 9), np.nan)
    assert stamps({"science": image(np.ones((9, 9))), "difference": image(nothing)})
