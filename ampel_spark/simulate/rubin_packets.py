"""Packets of simulated Rubin alerts, in schema 11.0.

Each source is encoded once, or twice where it is withdrawn later, and the history of a packet joins
these bytes, as for ZTF.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate.avro import container_head, encode_rows, record, varint
from ampel_spark.simulate.tarball import PackedPart, Tarball

__all__ = ["SCHEMA", "Encoded", "RubinSources", "write_night"]

#: The schema that is written.
SCHEMA = "lsst_alert_11.0"

_NULL, _ONE = b"\x00", b"\x02"
_HISTORY, _FORCED = 365.0, 60
_OBJECTS, _BODIES, _SOURCES = 313_000_000_000_000_000, 20_000_000_000_000_000, 170_000_000_000_000
_SHIFT = 1 << 20


@dataclass(frozen=True, eq=False)
class RubinSources:
    """Measurements of objects, by object and time: arrays with shape (n,).

    Attributes
    ----------
    owner, visit : ndarray of int64
        Number of the object and of the visit.
    is_body : ndarray of bool
        It is a body of the solar system.
    mjd : ndarray of float64
        Time [MJD, TAI].
    band, detector : ndarray of int64
    ra, dec : ndarray of float64
        Position [deg].
    flux, error : ndarray of float64
        PSF flux of the difference and its error [nJy].
    reliability : ndarray of float64
    detected, failed : ndarray of bool
        It is a source, and its PSF flux could not be measured.
    gone_mjd : ndarray of float64
        When the source was withdrawn [MJD, TAI]; NaN for most.
    """

    owner: NDArray[Any]
    is_body: NDArray[Any]
    visit: NDArray[Any]
    mjd: NDArray[Any]
    band: NDArray[Any]
    detector: NDArray[Any]
    ra: NDArray[Any]
    dec: NDArray[Any]
    flux: NDArray[Any]
    error: NDArray[Any]
    reliability: NDArray[Any]
    detected: NDArray[Any]
    failed: NDArray[Any]
    gone_mjd: NDArray[Any]

    @classmethod
    def of(cls, parts: Sequence[RubinSources]) -> RubinSources:
        """Return parts as one, in their order."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def take(self, rows: NDArray[Any]) -> RubinSources:
        """Return some rows."""
        return RubinSources(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def id(self) -> NDArray[Any]:
        """Ids of the sources."""
        return _SOURCES + self.owner * _SHIFT + self.visit

    @property
    def stock(self) -> NDArray[Any]:
        """Ids of the objects."""
        return np.where(self.is_body, _BODIES, _OBJECTS) + self.owner * 2

    def names(self) -> list[str]:
        """Return what the objects are called: a designation, or the id."""
        return [
            f"{2000 + owner % 26} SM{owner}" if is_body else str(stock)
            for owner, is_body, stock in zip(
                self.owner.tolist(), self.is_body.tolist(), self.stock.tolist(), strict=True
            )
        ]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Sources as Avro, each once.

    Attributes
    ----------
    sources : RubinSources
    shown, gone, forced : list of bytes
        As a source, as one that is withdrawn (empty for others), and as a forced measurement.
    """

    sources: RubinSources
    shown: list[bytes]
    gone: list[bytes]
    forced: list[bytes]

    @classmethod
    def of(cls, s: RubinSources) -> Encoded:
        """Encode all measurements."""
        shown, gone = (
            _put(s, asked, functools.partial(_sources, gone=is_gone))
            for asked, is_gone in ((s.detected, False), (np.isfinite(s.gone_mjd), True))
        )
        return cls(s, shown, gone, _put(s, ~s.is_body, _forced))


def write_night(path: Path, encoded: Encoded, rows: NDArray[Any]) -> int:
    """Write the alerts of a night, in order of their ids, and return how many they are.

    Parameters
    ----------
    path : Path
    encoded : Encoded
        The measurements of all nights.
    rows : ndarray of int
        Those of the night.
    """
    s = encoded.sources
    alerts = rows[s.detected[rows]]
    alerts = alerts[np.argsort(s.id[alerts])]
    begins = np.searchsorted(s.owner, s.owner[alerts]).tolist()
    own = s.take(alerts)
    heads = zip(own.id.tolist(), _bodies(own), own.is_body.tolist(), strict=True)
    head, sync = container_head(SCHEMA)
    shared = PackedPart(head)
    with Tarball(path) as tarball:
        for row, begin, (number, body, is_body) in zip(alerts.tolist(), begins, heads, strict=True):
            packet = b"".join((
                varint(number), _NULL, _NULL, encoded.shown[row], *_history(encoded, begin, row),
                _NULL if is_body else _ONE + _object(s, begin, row),
                _ONE + body if is_body else _NULL, _NULL, _NULL, _NULL, _NULL,
            ))  # fmt: skip
            block = varint(1) + varint(len(packet)) + packet
            tarball.add(f"{number}.avro", [shared, block, sync])
    return int(alerts.size)


def _history(encoded: Encoded, begin: int, row: int) -> tuple[bytes, bytes]:
    """Return the lists of earlier sources and of forced measurements of an alert."""
    s = encoded.sources
    before = np.arange(begin, row)
    before = before[s.mjd[before] > s.mjd[row] - _HISTORY]
    seen = before[s.detected[before]]
    history = [encoded.gone[i] if s.gone_mjd[i] < s.mjd[row] else encoded.shown[i]
               for i in seen.tolist()]  # fmt: skip
    older = before[s.mjd[before] < s.mjd[row] - 0.5]
    older = older[older >= seen[0]][-_FORCED:] if seen.size else older[:0]
    return _array(history), _array([encoded.forced[i] for i in older.tolist()])


def _put(
    s: RubinSources, asked: NDArray[Any], encode: Callable[[RubinSources], list[bytes]]
) -> list[bytes]:
    """Return what `encode` makes of some rows, in their places; empty elsewhere."""
    found = [b""] * s.owner.size
    rows = np.flatnonzero(asked)
    for row, data in zip(rows.tolist(), encode(s.take(rows)), strict=True):
        found[row] = data
    return found


def _array(items: list[bytes]) -> bytes:
    return _ONE + varint(len(items)) + b"".join(items) + b"\x00" if items else _NULL


def _sources(s: RubinSources, *, gone: bool) -> list[bytes]:
    """Return sources as Avro; `gone` says that they are as they are shown once withdrawn."""
    found = [b""] * s.owner.size
    for is_body in (False, True):
        for failed in (False, True):
            rows = np.flatnonzero((s.is_body == is_body) & (s.failed == failed))
            for row, data in zip(rows.tolist(), _alike(s.take(rows), gone), strict=True):
                found[row] = data
    return found


def _alike(s: RubinSources, gone: bool) -> list[bytes]:
    """Return sources that have the same fields null."""
    if not s.owner.size:
        return []
    is_body, failed = bool(s.is_body[0]), bool(s.failed[0])
    columns: dict[str, Any] = {
        "diaSourceId": s.id,
        "visit": s.visit + 2_026_000_000_000,
        "detector": s.detector,
        "diaObjectId": None if is_body else s.stock,
        "ssObjectId": s.stock if is_body else None,
        "midpointMjdTai": s.mjd,
        "ra": s.ra,
        "dec": s.dec,
        "x": 2000.0,
        "y": 2000.0,
        "apFlux": s.flux,
        "apFluxErr": 2.0 * s.error,
        "snr": np.abs(s.flux / s.error),
        "psfFlux": None if failed else s.flux,
        "psfFluxErr": None if failed else s.error,
        "psfFlux_flag": failed,
        "psfFlux_flag_edge": failed,
        "psfNdata": 400,
        "trailNdata": 0,
        "dipoleNdata": 0,
        "bboxSize": 20,
        "extendedness": 0.0,
        "reliability": s.reliability,
        "band": ["ugrizy"[b] for b in s.band.tolist()],
        "isNegative": s.flux < 0,
        "isDipole": False,
        "timeProcessedMjdTai": s.mjd + 0.001,
        "timeWithdrawnMjdTai": s.gone_mjd if gone else None,
        "pixelFlags": False,
        "pixelFlags_bad": False,
        "pixelFlags_streak": False,
        "pixelFlags_saturated": False,
        "centroid_flag": False,
        "glint_trail": False,
    }
    return encode_rows(record("diaSource", SCHEMA), columns, s.owner.size)


def _forced(s: RubinSources) -> list[bytes]:
    """Return the same measurements at the object's place."""
    columns: dict[str, Any] = {
        "diaForcedSourceId": s.id + 1,
        "diaObjectId": s.stock,
        "ra": s.ra,
        "dec": s.dec,
        "visit": s.visit + 2_026_000_000_000,
        "detector": s.detector,
        "psfFlux": s.flux,
        "psfFluxErr": s.error,
        "midpointMjdTai": s.mjd,
        "scienceFlux": s.flux,
        "scienceFluxErr": s.error,
        "band": ["ugrizy"[b] for b in s.band.tolist()],
        "timeProcessedMjdTai": s.mjd + 0.001,
    }
    return encode_rows(record("prvDiaForcedSources", SCHEMA), columns, s.owner.size)


def _object(s: RubinSources, begin: int, row: int) -> bytes:
    """Return the object of an alert as Avro."""
    seen = np.arange(begin, row + 1)[s.detected[begin : row + 1]]
    band = s.band[seen]
    columns: dict[str, Any] = {
        "diaObjectId": int(s.stock[row]),
        "validityStartMjdTai": float(s.mjd[row]),
        "ra": float(s.ra[row]),
        "dec": float(s.dec[row]),
        "firstDiaSourceMjdTai": float(s.mjd[seen[0]]),
        "lastDiaSourceMjdTai": float(s.mjd[row]),
        "nDiaSources": int(seen.size),
        **{f"{b}_psfFluxNdata": int((band == i).sum()) for i, b in enumerate("ugrizy")},
    }
    return encode_rows(record("diaObject", SCHEMA), columns, 1)[0]


def _bodies(s: RubinSources) -> list[bytes]:
    """Return what is known of bodies of the solar system as Avro; empty for other sources."""
    columns: dict[str, Any] = {
        "diaSourceId": s.id,
        "ssObjectId": s.stock,
        "designation": s.names(),
        "eclLambda": s.ra,
        "eclBeta": s.dec / 2.0,
        "galLon": s.ra,
        "galLat": s.dec,
        "phaseAngle": 10.0,
    }
    return encode_rows(record("ssSource", SCHEMA), columns, s.owner.size) if s.owner.size else []
