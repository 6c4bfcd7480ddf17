"""ZTF's names and numbers of objects, images, candidates and files.

- Objects: ``ZTF``, the year of the first detection (17-32), seven letters. AMPEL's stock id is
  ``base26(letters) << 4 | (year - 17)``.
- Images: ``pid`` is the night (days since 2017-01-01), five digits of the day's fraction, the
  readout channel in two, and ``15``.
- Candidates: ``candid`` is ``pid``, ``01`` and the four digits of the candidate's running number
  on the image (``tblid``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_OBJECTS", "candids", "image_stem", "names_of", "pids", "stocks"]

#: The number of names: their second letter is a or b, as in real names.
MAX_OBJECTS = 2 * 26**6

_JD2017 = 2457754.5


def names_of(numbers: NDArray[np.int64], years: NDArray[np.int64]) -> list[str]:
    """Return ZTF names.

    Parameters
    ----------
    numbers : array of int
        The letters as a number in base 26, below 26**7.
    years : array of int
        Years since 2000, 17 to 32.
    """
    digits = numbers[:, None] // 26 ** np.arange(6, -1, -1) % 26
    letters = (digits + 97).astype(np.uint8)
    return [f"ZTF{year}{bytes(row).decode()}" for year, row in zip(years, letters, strict=True)]


def stocks(numbers: NDArray[np.int64], years: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return AMPEL's stock ids of the names that `names_of` makes."""
    return np.asarray(numbers, np.int64) << 4 | (np.asarray(years, np.int64) - 17)


def pids(jd: NDArray[np.float64], rcid: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Return the processing ids of images with start times `jd` on readout channels `rcid`."""
    days = np.asarray(jd) - _JD2017
    nid = np.floor(days).astype(np.int64)
    fraction = np.floor((days - nid) * 1e5).astype(np.int64)
    return np.asarray(nid * 1_000_000_000 + fraction * 10_000 + np.asarray(rcid) * 100 + 15)


def candids(pid: NDArray[np.int64], tblid: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Return the ids of candidates with running numbers `tblid` (below 10,000) on images."""
    return np.asarray(pid * 1_000_000 + 10_000 + np.asarray(tblid))


def image_stem(night: str, pid: int, field: int, fid: int, rcid: int) -> str:
    """Return the stem of an image's file, such as ``ztf_20231017088310_000430_zr_c10_o_q4``."""
    fraction = pid // 10_000 % 100_000
    band = "gri"[fid - 1]
    chip, quadrant = divmod(rcid, 4)
    return f"ztf_{night}{fraction:05d}0_{field:06d}_z{band}_c{chip + 1:02d}_o_q{quadrant + 1}"
