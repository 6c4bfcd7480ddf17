"""Candidates in the formats that supernova cosmology exchanges: FITRES, and sncosmo's light curves.

FITRES is SNANA's text table: ``VARNAMES:`` with the names of the columns, ``SN:`` before each row,
``#`` before comments. Columns that SNANA has a name for are called by it (`NAMES`); the others keep
their label. What is unknown is -9, as there. mB is 10.635 - 2.5 log10(x0) (Guy et al. 2010).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ampel_spark.lightcurve import LightCurve

__all__ = ["NAMES", "fitres_text", "light_curve_text", "read_fitres"]

#: SNANA's names of columns.
NAMES: Mapping[str, str] = {
    "name": "CID", "z": "zHEL", "z_err": "zHELERR", "t0": "PKMJD", "t0_err": "PKMJDERR",
    "x0": "x0", "x0_err": "x0ERR", "x1": "x1", "x1_err": "x1ERR", "c": "c", "c_err": "cERR",
    "chisq": "FITCHI2", "ndof": "NDOF", "probability": "FITPROB", "mwebv": "MWEBV", "ra": "RA",
    "dec": "DEC",
}  # fmt: skip

_COVARIANCES = (("x1", "c"), ("x1", "x0"), ("c", "x0"))
_UNKNOWN = "-9"
_MJD = 2400000.5
#: Of SALT2 and SALT3 as sncosmo normalises them.
_MB = 10.635


def fitres_text(table: pa.Table, run_id: str, descriptions: Mapping[str, str]) -> str:
    """Return candidates as a FITRES table.

    Parameters
    ----------
    table : pyarrow.Table
        With a column ``name``; lists are left out, but for `covariance` with `fitted`.
    run_id : str
    descriptions : mapping of str to str
        Meaning of columns.
    """
    columns: dict[str, list[Any]] = {}
    about: dict[str, str] = {}
    labels = ["name", *(label for label in table.column_names if label not in ("name", "rank"))]
    for label in labels:
        if pa.types.is_list(table[label].type):
            continue
        called = NAMES.get(label) or re.sub(r"\W", "_", label)
        values = table[label].to_pylist()
        if label == "t0":
            values = [None if v is None else v - _MJD for v in values]
        columns[called], about[called] = values, descriptions.get(label, "")
    if "x0" in columns:
        columns |= _magnitudes(columns["x0"], columns.get("x0ERR"))
    if {"covariance", "fitted"} <= {*table.column_names}:
        columns |= _covariances(table)
    lines = [f"# run {run_id} of ampel_spark"]
    lines += [f"# {name}: {text}" for name, text in about.items() if text]
    lines += ["", f"NVAR: {len(columns)}", f"VARNAMES: {' '.join(columns)}", ""]
    rows = zip(*columns.values(), strict=True)
    lines += [f"SN: {' '.join(map(_word, row))}" for row in rows]
    return "\n".join(lines) + "\n"


def read_fitres(path: Path) -> pa.Table:
    """Return a FITRES table, under SNANA's names; -9 is null but in the name.

    Parameters
    ----------
    path : Path
    """
    names: list[str] = []
    rows: list[list[str]] = []
    for line in path.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words and words[0] == "VARNAMES:":
            names = words[1:]
        elif words and words[0] in ("SN:", "ROW:", "GAL:"):
            rows.append(words[1:])
    columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    return pa.table({name: _values(name, words) for name, words in columns.items()})


def light_curve_text(curve: LightCurve, facts: Mapping[str, Any]) -> str:
    """Return a light curve as ``sncosmo.read_lc`` takes it (format ``ascii``); times are JD.

    Parameters
    ----------
    curve : LightCurve
        Detections and forced photometry are written, upper limits are not.
    facts : mapping
        Goes into the head, as far as it is known.
    """
    points = curve.fluxes
    flux = np.where(points.sign < 0, -np.abs(points.flux), points.flux)
    good = np.isfinite(flux) & np.isfinite(points.fluxerr)
    lines = [
        f"@{key} {str(value).replace('#', '_')}"
        for key, value in facts.items()
        if value is not None and str(value)
    ]
    lines.append("time band flux fluxerr zp zpsys")
    columns = (points.jd, points.band, flux, points.fluxerr, points.zp, points.zpsys)
    lines += [
        " ".join(map(str, row)) for row in zip(*(c[good].tolist() for c in columns), strict=True)
    ]
    return "\n".join(lines) + "\n"


def _magnitudes(x0: Sequence[Any], error: Sequence[Any] | None) -> dict[str, list[Any]]:
    known = [v is not None and v > 0 for v in x0]
    mb = [_MB - 2.5 * math.log10(v) if good else None for v, good in zip(x0, known, strict=True)]
    found: dict[str, list[Any]] = {"mB": mb}
    if error is not None:
        found["mBERR"] = [
            2.5 / math.log(10.0) * e / v if good and e is not None else None
            for v, e, good in zip(x0, error, known, strict=True)
        ]
    return found


def _covariances(table: pa.Table) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {f"COV_{a}_{b}": [] for a, b in _COVARIANCES}
    for names, flat in zip(
        table["fitted"].to_pylist(), table["covariance"].to_pylist(), strict=True
    ):
        for a, b in _COVARIANCES:
            there = flat is not None and names is not None and {a, b} <= {*names}
            value = flat[names.index(a) * len(names) + names.index(b)] if there else None
            found[f"COV_{a}_{b}"].append(value)
    return found


def _word(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _UNKNOWN
    if isinstance(value, bool):
        return str(int(value))
    return re.sub(r"[\s#]+", "_", str(value)) or _UNKNOWN


def _values(name: str, words: Sequence[str]) -> pa.Array:
    if name == "CID":
        return pa.array(words, pa.string())
    known = [None if word == _UNKNOWN else word for word in words]
    try:
        return pa.array([None if word is None else float(word) for word in known], pa.float64())
    except ValueError:
        return pa.array(known, pa.string())
