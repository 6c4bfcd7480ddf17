"""Postage stamps from a small pool: made once, shared by all packets.

``small`` stamps are 15 pixels wide, ``real`` ones 63, as the survey's, of about its size in bytes
(a packet of 60-80 kB). Both are gzipped FITS images of a point source on noise (science,
difference) and of noise alone (template). They are pictures to move around, not to measure: they
do not show the packet's own source.
"""

from __future__ import annotations

import gzip
import io

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate.avro import string, varint
from ampel_spark.simulate.tarball import PackedPart

__all__ = ["CUTOUTS", "STAMPS", "Pool", "cutout_pieces", "stamp_pool"]

#: Width of the stamps of each choice, pixels; none: the packets' cut-outs are null.
CUTOUTS = {"none": 0, "small": 15, "real": 63}
#: The cut-outs of a packet, in its order, and the ends of their file names.
STAMPS = {"Science": "targ_sci", "Template": "ref", "Difference": "targ_scimref"}

#: Science, template and difference stamps.
Pool = list[tuple[PackedPart, PackedPart, PackedPart]]

_POOL = 16


def stamp_pool(cutouts: str, seed: int) -> Pool:
    """Return the pool of science, template and difference stamps; empty for ``none``."""
    width = CUTOUTS[cutouts]
    if not width:
        return []
    random = np.random.default_rng(np.random.SeedSequence([seed, 301, width]))
    return [_triplet(width, random) for _ in range(_POOL)]


def cutout_pieces(candid: int, pool: Pool) -> list[bytes | PackedPart]:
    """Return the Avro bytes of a packet's three cut-outs, in pieces; nulls without a pool."""
    if not pool:
        return [b"\x00" * len(STAMPS)]
    pid, last = divmod(candid, 1_000_000)
    # The time of the image chooses with the running number, which is most often 0.
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
    # What is compressed already is stored as it is.
    return PackedPart(gzip.compress(file.getvalue(), 6, mtime=0), level=0)
