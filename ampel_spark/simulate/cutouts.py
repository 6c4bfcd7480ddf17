"""Image cutouts from a small pool that all packets share.

``small`` cutouts are 15 pixels wide. ``real`` ones are 63 pixels wide and about as large in bytes
as the survey's (a packet of 60-80 kB). They are gzipped FITS images of a point source on noise
(science, difference) and of noise (template). They do not show the packet's own source, so they
must not be measured.
"""

from __future__ import annotations

import gzip
import io

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate.avro import string, varint
from ampel_spark.simulate.tarball import PackedPart

__all__ = ["CUTOUTS", "STAMPS", "Pool", "cutout_pieces", "stamp_pool"]

#: The width of each kind of cutouts, pixels; with ``none``, the packets' cutouts are null.
CUTOUTS = {"none": 0, "small": 15, "real": 63}
#: The cutouts of a packet in order, and the ends of their file names.
STAMPS = {"Science": "targ_sci", "Template": "ref", "Difference": "targ_scimref"}

#: Triples of a science, a template and a difference cutout.
Pool = list[tuple[PackedPart, PackedPart, PackedPart]]

_POOL = 16


def stamp_pool(cutouts: str, seed: int) -> Pool:
    """Return the pool of cutouts of a kind (a key of `CUTOUTS`); it is empty for ``none``."""
    width = CUTOUTS[cutouts]
    if not width:
        return []
    random = np.random.default_rng(np.random.SeedSequence([seed, 301, width]))
    return [_triplet(width, random) for _ in range(_POOL)]


def cutout_pieces(candid: int, pool: Pool) -> list[bytes | PackedPart]:
    """Return the Avro bytes of a packet's three cutouts, in pieces; nulls for an empty pool."""
    if not pool:
        return [b"\x00" * len(STAMPS)]
    pid, last = divmod(candid, 1_000_000)
    # The image's time takes part in the choice, as the running number is mostly 0.
    stamps = pool[(last + pid // 10_000) % len(pool)]
    pieces: list[bytes | PackedPart] = []
    for stamp, (what, end) in zip(stamps, STAMPS.items(), strict=True):
        image = "" if what == "Template" else f"_pid{pid}"
        name = string(f"candid{candid}{image}_{end}.fits.gz")
        pieces += [b"\x02" + name + varint(len(stamp.data)), stamp]
    return pieces


def _triplet(width: int, random: np.random.Generator) -> tuple[PackedPart, PackedPart, PackedPart]:
    y, x = np.mgrid[:width, :width] - (width - 1) / 2.0
    source = random.uniform(100.0, 2000.0) * np.exp(-0.5 * (x**2 + y**2) / 0.9**2)
    template = 200.0 + 2.5 * random.standard_normal((width, width))
    difference = source + 9.0 * random.standard_normal((width, width))
    return (_part(template + difference), _part(template), _part(difference))


def _part(image: NDArray[np.float64]) -> PackedPart:
    from astropy.io import fits

    unit = fits.PrimaryHDU(image.astype(">f4"))
    unit.header["BUNIT"] = "DN"
    file = io.BytesIO()
    unit.writeto(file)
    # The file is compressed already, so it is stored.
    return PackedPart(gzip.compress(file.getvalue(), 6, mtime=0), level=0)
