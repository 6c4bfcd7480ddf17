"""A resolved calibration release: its rules, its tables, and the hash of its content."""

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
    """Conditions on points; a rule acts on points that meet all of them.

    Attributes
    ----------
    survey, band, kind : tuple of str or None
        The values that the rule selects, sorted; None selects every value.
    field, rcid : tuple of int or None
        The fields and readout channels that the rule selects, sorted; None selects all.
    jd, mag : tuple of float
        Ranges [d] and [mag] that include their first value and exclude their last.
    stocks : ndarray of int64 or None
        The objects that the rule selects, sorted; None selects all.
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
        """The conditions as JSON values; more than 20 objects are given by their hash."""
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
        The table's file.
    keys : dict of str to ndarray with shape (N,)
        ``band`` (str), ``field``, ``rcid`` (int); rows are in order of their keys, each key once.
    values : dict of str to ndarray of float with shape (N,)
        ``zero_point`` and ``error_floor`` [mag], ``flux_scale``, ``error_scale``, ``flux_floor``.
    """

    path: str
    keys: Mapping[str, Array]
    values: Mapping[str, Array]

    @functools.cached_property
    def content_hash(self) -> str:
        """Hash of keys and values; it does not depend on the file's format or order."""
        return digest({**self.keys, **self.values})


@dataclass(frozen=True, eq=False)
class Replacement:
    """A table of replaced photometry; workers read it with `calibration.tables`.

    Attributes
    ----------
    path : str
        The table's file.
    content_hash : str
        The hash of its content; it does not depend on the file's format or order.
    rows : int
        The number of its rows.
    """

    path: str
    content_hash: str
    rows: int


@dataclass(frozen=True, eq=False)
class Rule:
    """A change, and the points that it acts on. The defaults change nothing.

    Attributes
    ----------
    number : int
        Place in the release, from 1.
    name : str
        The rule's name; it may be empty.
    select : Selects
        The points that the rule acts on.
    adds : bool
        True if the rule shall act on top of other rules that change the same.
    mask : bool
        True if states leave the points out.
    replace : Replacement or None
        Photometry that replaces the points' own.
    table : RuleTable or None
        Changes by band, field and readout channel.
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
        """The rule's changes as JSON values; tables are given by their hash."""
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
        """The kinds of change; two rules of one kind on one point add up or multiply."""
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

    Two releases are equal if they change the same; their names may differ.

    Attributes
    ----------
    name, description : str
        The release's name, and a sentence on it.
    rules : tuple of Rule
        The rules; without rules, photometry stays as issued.
    path : Path or None
        The release's file.
    """

    name: str
    description: str = ""
    rules: tuple[Rule, ...] = ()
    path: Path | None = None

    @functools.cached_property
    def content_hash(self) -> str:
        """Hash of all conditions, changes and tables: 32 hexadecimal digits."""
        content = [{"select": rule.select.content, "change": rule.content} for rule in self.rules]
        return hashlib.blake2b(_json(content).encode(), digest_size=16).hexdigest()

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table ``calibrations``, one for each rule."""
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
    """Return the hash of columns (numbers or text) by name: 32 hexadecimal digits."""
    made = hashlib.blake2b(digest_size=16)
    for name in sorted(columns):
        values = columns[name]
        made.update(f"{name}\0{len(values)}\0".encode())
        if values.dtype.kind == "f":
            # NaNs and zeros have several bit patterns; the hash knows one of each
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
