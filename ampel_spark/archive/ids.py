"""Ids of objects, datapoints and alerts: AMPEL's for ZTF, and hashes for what AMPEL has none of.

The rules for ZTF are AMPEL's (``ZTFIdMapper``, ``ZiDataPointShaper``), so that tables here and
documents there can be joined. Forced photometry is identified by what it measured, not by a hash of
its values: a re-issued flux is a revision of the same datapoint.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

import xxhash

__all__ = [
    "JD_2017",
    "forced_id",
    "measured_id",
    "named_stock",
    "stock_of",
    "table_alert_id",
    "upper_limit_id",
    "ztf_name",
]

_NAME = re.compile(r"ZTF(1[7-9]|2\d|3[0-2])([a-z]{7})")
#: Start of 2017, before the survey.
JD_2017 = 2457754.5
# Forced ids lie below every upper-limit id (about -1e17 for the year 2047).
_FORCED_BASE = -(1 << 62)
# Where ids of measurements in tables begin: (offset, direction and bits) of each kind. Detections
# are positive and upper limits negative, as AMPEL's are, and beyond them.
_MEASURED = {
    "detection": (1 << 62, 1, 62),
    "upper_limit": (-(1 << 61), -1, 61),
    "forced": (_FORCED_BASE, -1, 62),
}


def stock_of(name: str) -> int:
    """Return AMPEL's stock id of a ZTF name.

    Raises
    ------
    ValueError
        If `name` is not ``ZTF``, a year 17 to 32, and seven letters a to z.

    Examples
    --------
    >>> stock_of("ZTF18aaaaaab"), ztf_name(17)
    (17, 'ZTF18aaaaaab')
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a ZTF name (ZTF, year 17-32, seven letters a-z)")
    number = 0
    for letter in match[2]:
        number = number * 26 + ord(letter) - 97
    return number << 4 | (int(match[1]) - 17)


def ztf_name(stock: int) -> str:
    """Return the ZTF name of a stock id: the inverse of `stock_of`.

    Raises
    ------
    ValueError
        If no name has this id.
    """
    number, letters = stock >> 4, []
    for _ in range(7):
        number, digit = divmod(number, 26)
        letters.append(chr(97 + digit))
    if number or stock < 0:
        raise ValueError(f"{stock} is no ZTF stock id (0 to {(26**7 << 4) - 1})")
    return f"ZTF{17 + (stock & 15)}{''.join(reversed(letters))}"


def upper_limit_id(jd: float, rcid: int | None, pid: int, limit: float) -> int:
    """Return AMPEL's (negative) id of an upper limit.

    Parameters
    ----------
    jd : float
        Time, days.
    rcid : int or None
        Readout channel; taken from `pid` where it is missing.
    pid : int
        Processing id of the image.
    limit : float
        ``diffmaglim``, magnitudes.
    """
    channel = rcid if rcid is not None else pid % 10000 // 100
    return int((JD_2017 - jd) * 1000000) * 10000000 - channel * 100000 - round(limit * 1000)


def forced_id(stock: int, jd: float, fid: int, field: int | None, rcid: int | None) -> int:
    """Return the id of a forced measurement: a hash of what was measured, when and by what.

    It lies between -2**63 and -2**62, apart from detections (positive) and upper limits.
    """
    key = struct.pack(
        "<qqhii",
        stock,
        round(jd * 1e8),
        fid,
        -1 if field is None else field,
        -1 if rcid is None else rcid,
    )
    return _FORCED_BASE - (xxhash.xxh64_intdigest(key) >> 2)


def named_stock(survey: str, name: str) -> int:
    """Return the stock id of an object that has only a name: a hash from 2**62 on.

    AMPEL's ids of ZTF names are far below.
    """
    return (1 << 62) + (_hash(f"{survey}\0{name}") >> 2)


def measured_id(
    kind: str,
    survey: str,
    stock: int,
    jd: float,
    band: str,
    field: int | None,
    rcid: int | None,
    nth: int = 0,
) -> int:
    """Return the id of a measurement in a table: a hash of what was measured, when and by what.

    Parameters
    ----------
    kind : str
        detection, upper_limit or forced.
    survey : str
        Whose table it is.
    stock, jd, band, field, rcid
        What tells measurements of one survey apart.
    nth : int
        Tells apart what a table has more than once under all these, from 0.

    Returns
    -------
    int
        From 2**62 on for detections; from -2**61 down for upper limits; from -2**62 down for forced
        measurements.
    """
    base, direction, bits = _MEASURED[kind]
    key = f"{survey}\0{stock}\0{round(jd * 1e8)}\0{band}\0{field}\0{rcid}\0{nth}"
    return base + direction * (_hash(key) >> (64 - bits))


def table_alert_id(survey: str, stock: int, issued: str, datapoint_ids: Iterable[int]) -> int:
    """Return the (negative) alert id of an object in a table; alerts of surveys have positive ones.

    Parameters
    ----------
    survey : str
    stock : int
    issued : str
        Date of the table, or nothing: another issue is another alert.
    datapoint_ids : iterable of int
        What was measured: further points of an object are another alert.
    """
    ids = sorted(datapoint_ids)
    points = xxhash.xxh64_intdigest(struct.pack(f"<{len(ids)}q", *ids))
    return -1 - (_hash(f"{survey}\0{stock}\0{issued}\0{points}") >> 1)


def _hash(text: str) -> int:
    return xxhash.xxh64_intdigest(text.encode())
