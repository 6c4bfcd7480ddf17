"""Light curves of SNANA: its text files, and its pairs of FITS tables HEAD and PHOT.

Both tell objects apart by themselves, and say in a head what is known of each: its name (SNID),
place, redshifts, extinction, time of maximum. A head becomes a row of `TextTable.heads`, and `of`
says which one each row of the table belongs to. (Kessler et al. 2009, PASP 121, 1028,
doi:10.1086/605984; the manual of SNANA has the formats.)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ampel_spark.dialects import DialectError, TextTable, typed

__all__ = ["NAME", "head_of", "is_phot", "is_text", "joined", "read_text"]

#: The entry of a head with the name of the object.
NAME = "SNID"

# Rows of PHOT that end an object have this as their time.
_BETWEEN = -777.0
_KEY = re.compile(r"([A-Za-z][\w()./-]*):(?:\s+|$)(.*)")
# One column under two names, of older and of newer files.
_BANDS = ("BAND", "FLT")


@dataclass
class _Object:
    head: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def takes(self, key: str, words: list[str]) -> bool:
        """Take a line of the object in; False where it has too many or too few values."""
        if key == "OBS":
            fits = len(words) == len(self.names)
            self.rows += [words] * fits
            return fits
        if key in ("VARLIST", "VARNAMES_OBS"):
            self.names = words
        elif not key.startswith("END"):
            self.head |= _entry(key, words)
        return True

    def column(self, name: str) -> list[str | None]:
        """Return a column; one that the object has not got is nothing."""
        if name not in self.names:
            return [None] * len(self.rows)
        place = self.names.index(name)
        return [row[place] for row in self.rows]


def is_text(data: bytes) -> bool:
    """Say whether a file is a light curve in SNANA's text format."""
    return re.search(rb"^\s*(?:VARLIST|VARNAMES_OBS):", data, re.M) is not None


def read_text(data: bytes, text: Collection[str] = ()) -> TextTable:
    """Read light curves in SNANA's text format: one object, or several, one after the other.

    Parameters
    ----------
    data : bytes
    text : collection of str
        Columns that are text even where they look like numbers.

    Raises
    ------
    DialectError
        If an object has no name, or no names of its columns.
    """
    objects, odd = _objects(data.decode("utf-8-sig", errors="replace").splitlines())
    words = {NAME, *text}
    keys = _joined(one.head for one in objects)
    names = _joined(one.names for one in objects)
    heads = {key: typed([one.head.get(key) for one in objects], key in words) for key in keys}
    made = {
        name: typed([value for one in objects for value in one.column(name)], name in words)
        for name in names
    }
    return TextTable(
        _with_both_names(pa.table(made)),
        odd=tuple(odd),
        heads=pa.table(heads),
        of=np.repeat(np.arange(len(objects)), [len(one.rows) for one in objects]),
    )


def _joined(parts: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part))


def _objects(lines: Sequence[str]) -> tuple[list[_Object], list[tuple[int, str]]]:
    """Return the objects of a file, and lines with too many or too few values."""
    found: list[_Object] = []
    odd: list[tuple[int, str]] = []
    before: dict[str, str] = {}  # of the file, before the first SNID
    for number, line in enumerate(lines, 1):
        match = _KEY.match(line.split("#", 1)[0].strip())
        if match is None:
            continue
        key, words = match[1], match[2].split()
        if key == NAME:
            found.append(_Object({NAME: words[0] if words else ""} | before))
        elif not found:
            before |= _entry(key, words)
        elif not found[-1].takes(key, words):
            odd.append((number, line))
    if not found or not all(one.head[NAME] for one in found):
        raise DialectError("it is a light curve of SNANA without a name: it needs a line 'SNID:'")
    nameless = next((one.head[NAME] for one in found if not one.names), None)
    if nameless is not None:
        raise DialectError(
            f"object {nameless} of it has no line VARLIST: its columns have no names"
        )
    return found, odd


def _entry(key: str, words: Sequence[str]) -> dict[str, str]:
    """Return an entry of a head: a number without what follows it, and its error by itself."""
    if not words:
        return {}
    if not _is_number(words[0]):
        return {key: " ".join(words)}
    if len(words) > 2 and words[1] in ("+-", "+/-") and _is_number(words[2]):
        return {key: words[0], f"{key}_ERR": words[2]}
    return {key: words[0]}


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def is_phot(names: Collection[str]) -> bool:
    """Say whether columns of a FITS table are those of a PHOT table, which needs its HEAD."""
    return {"FLUXCAL", "FLUXCALERR"} <= {*names} and NAME not in names


def head_of(path: Path) -> Path | None:
    """Return the HEAD file beside a PHOT file; None where the name is no PHOT file's, or none is.

    Parameters
    ----------
    path : Path
        ``NAME_PHOT.FITS``, in any case, compressed or not.
    """
    if not re.search("phot", path.name, re.I):
        return None
    want = {re.sub("phot", "head", path.name, flags=re.I).lower()}
    want |= {re.sub(r"\.(gz|bz2|xz|zst|zstd)$", "", name) for name in want}
    for there in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
        plain = re.sub(r"\.(gz|bz2|xz|zst|zstd)$", "", there.name.lower())
        if plain in want and there.is_file():
            return there
    return None


def joined(phot: pa.Table, heads: pa.Table, meta: Mapping[str, Any]) -> TextTable:
    """Return the rows of a PHOT table with the objects of its HEAD.

    Parameters
    ----------
    phot, heads : Table
    meta : mapping
        Entries of the header of PHOT.

    Raises
    ------
    DialectError
        If the two do not belong together.
    """
    lacking = [n for n in (NAME, "PTROBS_MIN", "PTROBS_MAX") if n not in heads.column_names]
    if lacking:
        raise DialectError(f"its HEAD file has no column {lacking[0]}")
    first, last = (heads[n].to_numpy().astype(np.int64) for n in ("PTROBS_MIN", "PTROBS_MAX"))
    of = np.full(len(phot), -1, np.int64)
    for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        if b < a:
            continue  # an object without an observation
        if a < 1 or b > len(phot) or (of[a - 1 : b] >= 0).any():
            raise DialectError(
                f"rows {a} to {b} of object {heads[NAME][i]} in its HEAD are not its own in"
                f" {len(phot)} rows: the files do not belong together"
            )
        of[a - 1 : b] = i
    between = phot["MJD"].to_numpy() == _BETWEEN if "MJD" in phot.column_names else of < 0
    stray = np.flatnonzero((of < 0) & ~between)
    if len(stray):
        raise DialectError(
            f"row {stray[0] + 1}, and {len(stray) - 1} others, belong to no object of its HEAD: the"
            " files do not belong together"
        )
    mine = np.flatnonzero(of >= 0)
    order = [NAME, *(n for n in heads.column_names if n != NAME)]
    return TextTable(
        _with_both_names(phot.take(mine)), dict(meta), heads=heads.select(order), of=of[mine]
    )


def _with_both_names(table: pa.Table) -> pa.Table:
    there = [name for name in _BANDS if name in table.column_names]
    if len(there) != 1:
        return table
    (other,) = set(_BANDS) - set(there)
    return table.append_column(other, table[there[0]])
