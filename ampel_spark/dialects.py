"""Tables written as text: their separator, head, comments and words for nothing are found out.

Columns come out as what all of their values are: integers, numbers, truth values, else text. Whole
numbers that no 64-bit integer holds stay text, to the last digit.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from ampel_spark.bounds import Loader
from ampel_spark.packed import described

__all__ = ["MISSING", "DialectError", "TextTable", "read_delimited", "read_words", "typed"]

#: Words that stand for no value, in lower case.
MISSING = ("", "nan", "-nan", "null", "none", "na", "n/a", "#n/a", "<na>", "nil", "-", "--", "---",
           "...", "masked")  # fmt: skip

_LONG = r"^[+-]?\d{16,}$"
_COMMA = r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?"


class DialectError(ValueError):
    """A file that is no table that can be read, in words; `line` where it is one line of it."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class TextTable:
    """A table, the entries of its header, and its lines that have too many or too few values.

    Where a file tells objects apart by itself, `heads` has a row for each, the name first, and `of`
    the row of `heads` that each row of the table belongs to.
    """

    table: pa.Table
    meta: dict[str, Any] = field(default_factory=dict)
    odd: tuple[tuple[int, str], ...] = ()
    heads: pa.Table | None = None
    of: npt.NDArray[np.int64] | None = None


def read_delimited(data: bytes, text: Collection[str] = ()) -> TextTable:
    """Read CSV, in whatever dialect, or ECSV.

    Parameters
    ----------
    data : bytes
    text : collection of str
        Columns that are text even where they look like numbers.

    Raises
    ------
    DialectError
        If it is no such table.
    """
    written = _decoded(data)
    if not written.strip():
        raise DialectError("the file has no line")
    meta: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    separator = None
    is_ecsv = written.startswith("# %ECSV")
    if is_ecsv:
        separator, kinds, meta = _ecsv_head(written)
    head, mark, end, line = _line_of_names(written, separator, is_ecsv)
    names = [name.strip() for name in _fields(head, mark)]
    _check_names(names)
    if len(names) == 1 and len(names[0].split()) > 2 and '"' not in head:
        raise DialectError(
            f"its columns are separated by blanks, not by commas ({head[:60]!r}): read it with"
            " 'format: ascii', or write it with commas"
        )
    body = written[end:]
    loose = f"{mark} " in head and mark != " "
    if loose and '"' in body:  # a blank before a quote would make it a part of the value
        body = re.sub(rf'(^|{re.escape(mark)})[ \t]+"', r'\1"', body, flags=re.M)
    columns, odd = _columns(body, mark, len(names), line + 1)
    comma = mark == ";" and re.search(r"\d\.\d", body) is None
    made = {}
    for name, column in zip(names, columns, strict=True):
        as_text = name in text or kinds.get(name) == "string"
        if name:
            made[name] = (
                _text(column, loose, is_ecsv) if as_text else _typed(column, loose, is_ecsv, comma)
            )
    return TextTable(pa.table(made), meta, tuple(odd))


def _line_of_names(written: str, separator: str | None, is_ecsv: bool) -> tuple[str, str, int, int]:
    """Return the line with names, its separator, where the next line begins, and its index."""
    at = line = 0
    while at < len(written):
        end = written.find("\n", at)
        end = len(written) if end < 0 else end
        head, after = written[at:end], written[end + 1 : written.find("\n", end + 1)]
        if head.strip() and not head.startswith("#"):
            mark = separator or _separator(head)
            is_title = len(_fields(head, mark)) == 1 and len(_fields(after, _separator(after))) > 2
            if not is_title or is_ecsv:
                return head, mark, end + 1, line
        at, line = end + 1, line + 1
    raise DialectError("it has comments alone, and no line with the names of its columns")


def read_words(data: bytes, text: Collection[str] = ()) -> TextTable:
    """Read a table whose values are separated by blanks; the line of names may be a comment.

    Parameters
    ----------
    data : bytes
    text : collection of str
        Columns that are text even where they look like numbers.

    Raises
    ------
    DialectError
        If it is no such table.
    """
    lines = [(n, s) for n, s in enumerate(_decoded(data).split("\n"), 1) if s.strip()]
    rows = [(n, s) for n, s in lines if not s.startswith("#")]
    comments = [s for _, s in lines[: lines.index(rows[0])]] if rows else [s for _, s in lines]
    first = _words(rows[0][1]) if rows else []
    if first and not any(_is_number(word) for word in first):
        if len(rows) > 1 and rows[0][1].count(",") == rows[1][1].count(",") > 0:
            return read_delimited("\n".join(s for _, s in rows).encode(), text)
        names, rows = [n.strip(",") for n in first if n.strip(",")], rows[1:]
    elif comments:
        names = _words(comments[-1][1:])
    else:
        raise DialectError("no line of it says how its columns are called")
    _check_names(names)
    found = [(n, line, _words(line)) for n, line in rows]
    values = [words for _, _, words in found if len(words) == len(names)]
    odd = [(n, line) for n, line, words in found if len(words) != len(names)]
    if odd and not values:
        raise DialectError(_uneven(odd[0], len(_words(odd[0][1])), len(names)))
    columns = list(zip(*values, strict=True)) or [()] * len(names)
    made = {n: typed(words, n in text) for n, words in zip(names, columns, strict=True)}
    return TextTable(pa.table(made), _entries(comments), odd=tuple(odd))


def _entries(comments: Sequence[str]) -> dict[str, Any]:
    """Return what comments such as ``# Requested R.A. = 1.5 deg`` say, numbers without a unit."""
    found = (re.match(r"#+\s*([^=]{1,80}?)\s*=\s*(\S.*)", line) for line in comments)
    entries = {}
    for match in filter(None, found):
        words = match[2].split()
        entries[match[1]] = words[0] if _is_number(words[0]) and len(words) < 3 else match[2]
    return entries


def typed(words: Sequence[str | None], as_text: bool = False) -> pa.Array:
    """Return words as what all of them are: integers, numbers, truth values, else text.

    Parameters
    ----------
    words : sequence of str or None
    as_text : bool
        They are text, whatever they look like.
    """
    column = pa.array(words, pa.string())
    return _text(column, True, False) if as_text else _typed(column, True, False, False)


def _decoded(data: bytes) -> str:
    what = described(data[:512])
    if what is not None and what != "JSON":
        raise DialectError(f"it is no table in text, but {what}")
    try:
        is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        written = data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DialectError(
            f"its encoding is no UTF-8: byte 0x{data[error.start]:02x} in line {line}; perhaps it"
            " is Latin-1: save it as UTF-8"
        ) from None
    if "\0" in written:
        raise DialectError("it is no text: it has zero bytes")
    return written.replace("\r\n", "\n").replace("\r", "\n")


def _ecsv_head(written: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return separator, types by column and header of ECSV."""
    lines = [s[2:] for s in written.split("\n", 10_000) if s.startswith("# ")]
    try:
        # Tags of astropy's own classes say nothing of how the columns are written.
        plain = re.sub(r"!(?:astropy|numpy|python)\S*", "", "\n".join(lines[1:]))
        head = yaml.load(plain.split("---", 1)[-1], Loader=Loader)
        kinds = {column["name"]: column["datatype"] for column in head["datatype"]}
        meta = dict(head.get("meta") or {})
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DialectError(f"its ECSV head cannot be read: {error}") from None
    return head.get("delimiter", " "), kinds, meta


def _separator(head: str) -> str:
    bare = re.sub(r'"[^"]*"', "", head)
    return max(",;\t|", key=bare.count)


def _fields(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _words(line: str) -> list[str]:
    return _fields(line.replace("\t", " ").strip(), " ")


def _is_number(word: str) -> bool:
    try:
        float(word.strip(","))
    except ValueError:
        return False
    return word.lower() not in MISSING


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DialectError(f"two columns are called {twice[0]!r}: rename or remove one of them")


def _columns(
    body: str, separator: str, width: int, line: int
) -> tuple[list[pa.Array], list[tuple[int, str]]]:
    """Return the columns below a head as text, and rows of another width with their lines."""
    from pyarrow import csv as arrow_csv

    odd: list[tuple[int, str, int]] = []

    def note(row: Any) -> str:
        if not row.text.startswith("#"):
            odd.append((line + (row.number or 0), row.text, row.actual_columns))
        return "skip"

    if body.count('"') % 2:
        n = next(n for n, s in enumerate(body.split("\n"), line + 1) if s.count('"') % 2)
        raise DialectError(f"a quotation mark is not closed, perhaps that in line {n}")
    names = [str(i) for i in range(width)]
    if not body.strip():
        return [pa.array([], pa.string())] * width, []
    # Files are many and small, and Spark has a process for every core.
    table = arrow_csv.read_csv(
        pa.BufferReader(body.encode()),
        read_options=arrow_csv.ReadOptions(column_names=names, use_threads=False),
        parse_options=arrow_csv.ParseOptions(
            delimiter=separator, newlines_in_values='"' in body, invalid_row_handler=note
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    if odd and not len(table):
        raise DialectError(_uneven(odd[0][:2], odd[0][2], width))
    return [_flat(column) for column in table.columns], [o[:2] for o in odd]


def _uneven(row: tuple[int, str], there: int, width: int) -> str:
    return f"line {row[0]} has {there} values for {width} columns: {row[1][:60]!r}"


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _text(column: pa.Array, loose: bool, gaps: bool) -> pa.Array:
    column = pc.utf8_trim_whitespace(column) if loose else column
    return pc.if_else(pc.equal(column, ""), None, column) if gaps else column


def _typed(column: pa.Array, loose: bool, gaps: bool, comma: bool) -> pa.Array:
    """Return text as what all of it is; `comma`: numbers may be written with one."""
    bare = pc.utf8_trim_whitespace(column)
    nothing = pc.is_in(pc.utf8_lower(bare), value_set=pa.array(MISSING))
    values = pc.if_else(nothing, None, bare)
    there = values.drop_null()
    if not len(there):
        return pa.nulls(len(column), pa.float64())
    values = pc.replace_substring_regex(values, r"^\+", "")
    if comma and pc.all(pc.match_substring_regex(there, f"^{_COMMA}$")).as_py():
        values = pc.replace_substring(values, ",", ".")
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        if kind == pa.float64() and pc.any(pc.match_substring_regex(there, _LONG)).as_py():
            break  # a float would lose some of its digits
        try:
            return pc.cast(values, kind)
        except pa.ArrowInvalid:
            continue
    return _text(column, loose, gaps)
