"""The image cutouts of an alert: science, reference and difference image."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ampel_spark.bounds import TooLargeError, cure, limit
from ampel_spark.t3.figures import COLOURS, draw

__all__ = ["KINDS", "pixels", "stamps"]

#: The images, in the order in which they are shown.
KINDS = ("science", "template", "difference")


def pixels(image: bytes | None) -> npt.NDArray[np.float64] | None:
    """Return the pixels of a gzipped FITS image, or None if it is absent or damaged.

    Parameters
    ----------
    image : bytes or None
        The file, as in ZTF's packets.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    if not image:
        return None
    try:
        # astropy warns of the first card of real cutouts, which does not conform to FITS
        with (
            warnings.catch_warnings(action="ignore", category=AstropyWarning),
            fits.open(io.BytesIO(_unpacked(image)), memmap=False) as file,
        ):
            data = file[0].data
    except (OSError, EOFError, ValueError, TypeError, zlib.error):
        return None
    return None if data is None or data.ndim != 2 else np.asarray(data, float)


def _unpacked(image: bytes) -> bytes:
    with gzip.open(io.BytesIO(image)) as stream:
        content = stream.read(limit("image") + 1)
    if len(content) > limit("image"):
        raise TooLargeError(f"{len(image)} bytes become more than {cure('image')}")
    return content


def stamps(images: Mapping[str, bytes | None], *, form: str = "png") -> bytes:
    """Return a picture of the cutouts of one alert side by side, or b"" if none can be read.

    Each cutout is scaled from its 1st to its 99.5th percentile. Cutouts are not rotated: in ZTF's,
    north is at the bottom or the top, depending on the field.

    Parameters
    ----------
    images : mapping of str to bytes
        Gzipped FITS files, by the names in `KINDS`.
    form : str
        ``png`` or ``svg``.
    """
    found = {kind: pixels(images.get(kind)) for kind in KINDS}
    if all(image is None for image in found.values()):
        return b""

    def plot(figure: Figure) -> None:
        for i, (kind, image) in enumerate(found.items()):
            axes = figure.add_axes((i / 3 + 0.005, 0.0, 1 / 3 - 0.01, 0.86))
            axes.set_axis_off()
            axes.set_title(kind, fontsize=7.5, color=COLOURS["muted"], pad=3)
            if image is None or not np.isfinite(image).any():
                axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes,
                          fontsize=7.5, color=COLOURS["muted"])  # fmt: skip
                continue
            low, high = np.nanpercentile(image, (1.0, 99.5))
            high = max(high, low + 1e-9)
            axes.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower",
                        interpolation="nearest")  # fmt: skip

    return draw((3.6, 1.4), plot, form)
