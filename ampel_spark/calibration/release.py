"""A calibration release with nothing left to look up: rules, tables, and the hash of it all."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["RAW", "Release", "Replacement", "Rule", "RuleTable", "Selects", "digest"]

Array = npt.NDArray[Any]
_ALWAYS = (-math.inf, math.inf)


@dataclass(frozen=True, eq=False)
class Selects:
    """Which points a rule acts on; None is every one.

    Attributes
    ----------
    survey, band, kind : tuple of str, sorted
    field, rcid : tuple of int, sorted
    jd, mag : tuple of float
        Half-open ranges [d] and [mag]: the first value belongs to them, the last does not.
    stocks : ndarray of int64, sorted
    """

    survey: tuple[str, ...] | None = None
    band: tuple[str, ...] | None = None
    field: tuple[int, ...] | None = None
    rcid: tuple[int, ...] | None = None
    kind: tuple[str, ...] | None = None
    jd: tuple[float, float] = _ALWAYS
    mag: tuple[float, float] = _ALWAYS
    stocks: Array | None = None

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """What is given, as JSON can hold it; objects by a hash where they are many."""
        found: dict[str, Any] = {
            key: list(value)
            for key in ("survey", "band", "field", "rcid", "kind")
            if (value := getattr(self, key)) is not None
        }
        for key in ("jd", "mag"):
            low, high = getattr(self, key)
            if (low, high) != _ALWAYS:
                found[key] = [_finite(low), _finite(high)]
        if self.stocks is not None:
            few = len(self.stocks) <= 20
            found["objects"] = (
                self.stocks.tolist()
                if few
                else {"count": len(self.stocks), "hash": digest({"stock": self.stocks})}
            )
        return found


@dataclass(frozen=True, eq=False)
class RuleTable:
    """Changes by band, field and readout channel.

    Attributes
    ----------
    path : str
    keys : dict of str to ndarray with shape (N,)
        ``band`` (str), ``field``, ``rcid`` (int); in order of the rows' keys, each row once.
    values : dict of str to ndarray of float with shape (N,)
        ``zero_point`` and ``error_floor`` [mag], ``flux_scale``, ``error_scale``, ``flux_floor``.
    """

    path: str
    keys: Mapping[str, Array]
    values: Mapping[str, Array]

    @functools.cached_property
    def content_hash(self) -> str:
        """Hash of keys and values, whatever the file looks like."""
        return digest({**self.keys, **self.values})


@dataclass(frozen=True, eq=False)
class Replacement:
    """Replaced photometry, which workers read by themselves: see `ampel_spark.calibration.tables`.

    Attributes
    ----------
    path : str
    content_hash : str
        Of what is in it, whatever the file looks like.
    rows : int
    """

    path: str
    content_hash: str
    rows: int


@dataclass(frozen=True, eq=False)
class Rule:
    """What is changed of which points. What is not given changes nothing.

    Attributes
    ----------
    number : int
        Place in the release, from 1.
    name : str
    select : Selects
    adds : bool
        Meant to act on top of other rules that change the same.
    mask : bool
    replace : Replacement or None
    table : RuleTable or None
    zero_point : float
        Added to magnitudes [mag].
    nonlinearity : tuple of float
        Slope [mag/mag] and pivot [mag].
    slope : dict of str to float
        Added to magnitudes, by band [mag].
    flux_scale, error_scale : float
        Factors.
    error_floor, flux_floor : float
        Added to errors in quadrature [mag], [fraction of the flux].
    """

    number: int
    name: str = ""
    select: Selects = field(default_factory=Selects)
    adds: bool = False
    mask: bool = False
    replace: Replacement | None = None
    table: RuleTable | None = None
    zero_point: float = 0.0
    nonlinearity: tuple[float, float] = (0.0, 0.0)
    slope: Mapping[str, float] = field(default_factory=dict)
    flux_scale: float = 1.0
    error_scale: float = 1.0
    error_floor: float = 0.0
    flux_floor: float = 0.0

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """What the rule changes, as JSON can hold it; tables by their hash."""
        found: dict[str, Any] = {"mask": True} if self.mask else {}
        if self.replace is not None:
            found["replace"] = {"hash": self.replace.content_hash, "rows": self.replace.rows}
        if self.table is not None:
            rows = len(next(iter(self.table.values.values())))
            columns = [*self.table.keys, *self.table.values]
            found["table"] = {"hash": self.table.content_hash, "rows": rows, "columns": columns}
        if self.nonlinearity[0]:
            found["nonlinearity"] = dict(
                zip(("mag_per_mag", "pivot"), self.nonlinearity, strict=True)
            )
        if self.slope:
            found["slope"] = dict(sorted(self.slope.items()))
        for key, nothing in (("zero_point", 0.0), ("flux_scale", 1.0), ("error_scale", 1.0),
                             ("error_floor", 0.0), ("flux_floor", 0.0)):  # fmt: skip
            if getattr(self, key) != nothing:
                found[key] = getattr(self, key)
        return found

    @property
    def changes(self) -> frozenset[str]:
        """The kinds of change that it makes: rules of one kind on one point add or multiply."""
        columns = set() if self.table is None else set(self.table.values)
        kinds = {
            "mask": self.mask,
            "replace": self.replace is not None,
            "zero point": bool(self.zero_point or self.slope or "zero_point" in columns),
            "non-linearity": bool(self.nonlinearity[0]),
            "flux scale": self.flux_scale != 1.0 or "flux_scale" in columns,
            "error": bool(
                self.error_scale != 1.0
                or self.error_floor
                or self.flux_floor
                or columns & {"error_scale", "error_floor", "flux_floor"}
            ),
        }
        return frozenset(kind for kind, there in kinds.items() if there)

    def __str__(self) -> str:
        return f"rule {self.number}" + (f" ({self.name})" if self.name else "")


@dataclass(frozen=True, eq=False)
class Release:
    """A calibration release.

    Two are equal where they change the same, whatever they are called.

    Attributes
    ----------
    name, description : str
    rules : tuple of Rule
        None: photometry stays as it was issued.
    path : Path or None
        Its file.
    """

    name: str
    description: str = ""
    rules: tuple[Rule, ...] = ()
    path: Path | None = None

    @functools.cached_property
    def content_hash(self) -> str:
        """Hash over what the rules select and change, tables included: 32 hexadecimal digits."""
        content = [{"select": rule.select.content, "change": rule.content} for rule in self.rules]
        return hashlib.blake2b(_json(content).encode(), digest_size=16).hexdigest()

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of table ``calibrations``: one for each rule."""
        return [
            {
                "release": self.name,
                "content_hash": self.content_hash,
                "rule": rule.number,
                "name": rule.name,
                "description": self.description,
                "selects": _json(rule.select.content),
                "changes": _json(rule.content),
                "objects": None if rule.select.stocks is None else rule.select.stocks.tolist(),
                "tables": [t.path for t in (rule.table, rule.replace) if t is not None],
            }
            for rule in self.rules
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Release) and self.content_hash == other.content_hash

    def __hash__(self) -> int:
        return hash(self.content_hash)


#: The release that changes nothing.
RAW = Release("raw", "no correction")


def digest(columns: Mapping[str, Array]) -> str:
    """Return a hash over columns in order of name: 32 hexadecimal digits."""
    made = hashlib.blake2b(digest_size=16)
    for name in sorted(columns):
        values = columns[name]
        made.update(f"{name}\0{len(values)}\0".encode())
        if values.dtype.kind == "f":
            # one NaN and one zero, whatever bits they had
            made.update(np.where(np.isnan(values), np.nan, values + 0.0).astype("<f8").tobytes())
        elif values.dtype.kind in "iu":
            made.update(values.astype("<i8").tobytes())
        else:
            made.update("\0".join(values.tolist()).encode())
    return made.hexdigest()


def _json(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
