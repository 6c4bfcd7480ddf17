"""The reader of calibration releases: it checks and resolves a release's file.

It reports all mistakes of the file at once, each with its line, as for a job. Paths in the file are
relative to the file.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from ampel_spark.archive.ids import stock_of
from ampel_spark.archive.reading.surveys import as_of_jd
from ampel_spark.calibration.entries import ReleaseEntry, RuleEntry, SelectEntry, Slope
from ampel_spark.calibration.release import Release, Rule, Selects
from ampel_spark.calibration.tables import read_replacement, read_rule_table
from ampel_spark.document import Document, read_document
from ampel_spark.errors import ConfigError, nearest
from ampel_spark.problems import entries, note_refusals

if TYPE_CHECKING:
    from ampel_spark.archive.reading.surveys import Survey

__all__ = ["WAVELENGTHS", "load_release"]

#: Mean wavelengths of bands [Angstrom], from sncosmo's transmissions.
WAVELENGTHS = {
    "ztfg": 4813.9, "ztfr": 6421.8, "ztfi": 7883.0,
    "lsstu": 3670.7, "lsstg": 4826.9, "lsstr": 6223.2, "lssti": 7546.0, "lsstz": 8690.9,
    "lssty": 9710.3, "atlasc": 5408.7, "atlaso": 6866.3, "ps1::g": 4866.5, "ps1::r": 6214.6,
    "ps1::i": 7544.6, "ps1::z": 8679.5, "ps1::y": 9633.2, "sdssu": 3594.3, "sdssg": 4717.6,
    "sdssr": 6186.8, "sdssi": 7506.2, "sdssz": 8918.3, "desg": 4828.1, "desr": 6433.8,
    "desi": 7829.0, "desz": 9177.2, "desy": 9915.6,
}  # fmt: skip

_ZTF_BANDS = ("ztfg", "ztfr", "ztfi")

_NIGHT = re.compile(r"\d{4}-?\d\d-?\d\d")
_Place = list[str | int]


def load_release(path: str | Path, survey: Survey | None = None) -> Release:
    """Read a calibration release.

    Parameters
    ----------
    path : path
        The release's file.
    survey : Survey, optional
        The survey, for the time at which its nights begin; by default, nights are UTC dates.

    Raises
    ------
    ConfigError
        If the file has mistakes; the error lists all of them.

    Examples
    --------
    >>> from ampel_spark.settings import conf_dir
    >>> release = load_release(conf_dir() / "calibrations" / "zp_g_10mmag.yml")
    >>> release.name, release.rules[0].select.band, release.rules[0].zero_point
    ('zp_g_10mmag', ('ztfg',), 0.01)
    """
    document = read_document(path)
    entry = None
    try:
        entry = ReleaseEntry.model_validate(document.content)
    except ValidationError as error:
        note_refusals(document, error, ReleaseEntry)
    base = Path(path).resolve().parent
    # rules that are valid are checked further, even if another part of the release is refused
    rules = [
        _rule(document, i, rule, base, survey)
        for i, rule in entries(document, "rules", RuleEntry)
        if isinstance(i, int)
    ]
    document.check()
    if entry is None:
        raise AssertionError("a refusal is a problem")
    return Release(entry.name, entry.description, tuple(rules), Path(path).resolve())


def _rule(document: Document, i: int, entry: RuleEntry, base: Path, survey: Survey | None) -> Rule:
    where: _Place = ["rules", i]
    made: dict[str, Any] = {}
    try:
        if entry.table is not None:
            where = ["rules", i, "table"]
            made["table"] = read_rule_table(_path(base, entry.table))
        if entry.replace is not None:
            where = ["rules", i, "replace", "table"]
            made["replace"] = read_replacement(_path(base, entry.replace.table))
    except ConfigError as error:
        document.problem(where, str(error))
    where = ["rules", i]
    select = _selects(document, [*where, "select"], entry.select, base, survey)
    if entry.slope is not None:
        made["slope"] = _slopes(document, [*where, "slope"], entry.slope, select.band, survey)
    if entry.nonlinearity is not None:
        made["nonlinearity"] = (entry.nonlinearity.mag_per_mag, entry.nonlinearity.pivot)
    if entry.error is not None:
        made |= {
            "error_scale": entry.error.scale,
            "error_floor": entry.error.floor,
            "flux_floor": entry.error.flux_floor,
        }
    return Rule(
        i + 1,
        entry.name,
        select,
        entry.adds,
        entry.mask is True,
        zero_point=entry.zero_point or 0.0,
        flux_scale=1.0 if entry.flux_scale is None else entry.flux_scale,
        **made,
    )


def _slopes(
    document: Document,
    where: _Place,
    slope: Slope,
    selected: Sequence[str] | None,
    survey: Survey | None,
) -> dict[str, float]:
    """Return what a rule adds in each band, in mag; `document` takes bands of no wavelength."""
    known = WAVELENGTHS | slope.wavelength
    usual = {*_ZTF_BANDS, *slope.wavelength, *_bands_of(survey)}
    bands = selected or tuple(sorted(usual & {*known}))
    for band in bands:
        if band not in known:
            hint = nearest(band, known)
            hint = hint if "mean" in hint else nearest(band, usual)
            document.problem(
                where,
                f"the wavelength of {band!r} is not known: give it, as "
                f"wavelength: {{{band}: 5000}}{hint}",
            )
    return {
        band: slope.mag * (known[band] - slope.pivot) / slope.over
        for band in bands
        if band in known
    }


def _bands_of(survey: Survey | None) -> set[str]:
    """Return the bands that a survey's settings name."""
    if survey is None:
        return set()
    of_table = {} if survey.photometry is None else survey.photometry.band.names
    of_packets = {} if survey.packets is None else survey.packets.bands
    return {*of_table.values(), *of_packets.values()}


def _selects(
    document: Document, where: _Place, entry: SelectEntry, base: Path, survey: Survey | None
) -> Selects:
    """Return the conditions of a rule, and note mistakes in the document."""
    made: dict[str, Any] = {}
    for key in ("survey", "band", "field", "kind"):
        value = getattr(entry, key)
        made[key] = None if value is None else tuple(sorted(set(value)))
    made["rcid"] = _readout_channels(document, where, entry)
    if entry.time is not None:
        made["jd"] = _times(document, [*where, "time"], entry, survey)
    if entry.mag is not None:
        low, high = entry.mag.min, entry.mag.max
        made["mag"] = (-math.inf if low is None else low, math.inf if high is None else high)
    if entry.objects is not None or entry.objects_in is not None:
        made["stocks"] = _stocks(document, where, entry, base)
    return Selects(**made)


def _readout_channels(
    document: Document, where: _Place, entry: SelectEntry
) -> tuple[int, ...] | None:
    """Return the readout channels that ``rcid`` and ``ccd`` select together; None for all."""
    rcids = None if entry.rcid is None else set(entry.rcid)
    if entry.ccd is not None:
        quadrants = {4 * (ccd - 1) + k for ccd in entry.ccd for k in range(4)}
        rcids = quadrants if rcids is None else rcids & quadrants
        if not rcids:
            document.problem([*where, "ccd"], "none of these CCDs has one of the rcid given")
    return None if rcids is None else tuple(sorted(rcids))


def _times(
    document: Document, where: _Place, entry: SelectEntry, survey: Survey | None
) -> tuple[float, float]:
    """Return the half-open range of JD that ``time`` selects."""
    time = entry.time
    assert time is not None
    bounds = [-math.inf, math.inf]
    for k, key in enumerate(("first", "last")):
        value = getattr(time, key)
        if value is None:
            continue
        try:
            jd = as_of_jd(value, survey)
        except ConfigError as error:
            document.problem([*where, key], str(error))
            continue
        if _NIGHT.fullmatch(str(value).strip()):
            end = math.nextafter(jd, math.inf)
            jd = end if key == "last" else end - 1.0
        bounds[k] = jd
    if bounds[0] >= bounds[1]:
        document.problem(where, f"it ends ({time.last}) before it begins ({time.first})")
    return bounds[0], bounds[1]


def _stocks(document: Document, where: _Place, entry: SelectEntry, base: Path) -> Any:
    """Return the stock ids that ``objects`` and ``objects_in`` name, sorted."""
    texts = [([*where, "objects"], text, "") for text in entry.objects or ()]
    if entry.objects_in is not None:
        place: _Place = [*where, "objects_in"]
        path = _path(base, entry.objects_in)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            document.problem(place, f"{path} cannot be read: {error}")
            lines = []
        words = [line.partition("#")[0].strip() for line in lines]
        texts += [(place, w, f"line {n} of {path}") for n, w in enumerate(words, start=1) if w]
    stocks = set()
    for place, text, line in texts:
        try:
            stocks.add(_stock(text))
        except ValueError as error:
            # Whatever file it is, what stands in it is not shown to who wrote the job.
            what = f"{line} names no object" if line else str(error)
            document.problem(place, f"{what}; other objects go by their stock id")
            if line:
                break
    if not texts:
        document.problem([*where, "objects_in"], "the file names no object")
    return np.array(sorted(stocks), np.int64)


def _stock(text: str) -> int:
    if not re.fullmatch(r"-?\d+", text):
        return stock_of(text)
    if not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(f"{text} has more than 64 bits")
    return int(text)


def _path(base: Path, text: str) -> Path:
    return Path(os.path.normpath(base / Path(text).expanduser()))
