"""Values of packets: what a field can hold, and the words for a value that it cannot.

A writer leaves text where a number belongs, NaN for null, or -999 for nothing. Every value that is
kept goes through here. What cannot be is a `BadPacket` that names the field and the value; whether
that costs the packet, or one entry of its history, is for the caller.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "ERRORS",
    "MAGNITUDES",
    "POSITIONS",
    "SIGNS",
    "BadPacket",
    "check_flux",
    "fitting",
    "from_entries",
    "integer",
    "is_magnitude",
    "needed",
    "own_values",
    "position",
    "printable",
    "real",
    "scalars",
    "sign_of",
    "text",
    "truth",
    "within",
]

#: A magnitude or a limit lies between these, both excluded. Sentinels (-999, -99, 99, 999) do not.
MAGNITUDES = (0.0, 40.0)

#: An error of a magnitude is from the first to below the second.
ERRORS = (0.0, 10.0)

#: What right ascension and declination can be [deg].
POSITIONS = {"ra": (0.0, 360.0), "dec": (-90.0, 90.0)}

# Integers from here on are not all floats: one that came through a float may be another's.
_EXACT = 1 << 53
_FLOAT_MAX = 3.4028234663852886e38

#: Words of a subtraction's sign, the survey's own (t, f, 1, 0) and others, in lower case.
SIGNS = {
    **dict.fromkeys(("t", "1", "true", "+1", "1.0", "+1.0", "y", "yes", "+", "pos", "positive"), 1),
    **dict.fromkeys(
        ("f", "false", "0", "-1", "0.0", "-1.0", "n", "no", "-", "neg", "negative"), -1
    ),
}


class BadPacket(ValueError):  # noqa: N818 - an outcome of a packet, not an error of ours
    """A packet that cannot be an alert: `reason` in one word, and what exactly is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(printable(detail))
        self.reason = reason


def printable(words: str) -> str:
    """Return text that UTF-8 can hold: what was no UTF-8 in it is escaped."""
    return words if words.isascii() else words.encode("utf-8", "backslashreplace").decode()


def integer(name: str, value: Any, bits: int = 32) -> int | None:
    """Return a value as an integer; None where it is null or NaN.

    A float is taken where it is whole and below 2**53. Text is taken in the place of 64 bits, where
    ids are: writers without such integers leave them so.

    Parameters
    ----------
    name : str
        The field's.
    value : object
    bits : int
        32 or 64: those of the field.

    Raises
    ------
    BadPacket
        If it is none, or may have been another before it was made a float.
    """
    if value is None:
        return None
    whole: Any = value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if abs(value) >= _EXACT and math.isfinite(value):
            raise BadPacket(
                "bad_value",
                f"field {name}: {value!r} came through a float, in which integers from 2**53 on are"
                " rounded; write it as an integer",
            )
        whole = int(value) if value.is_integer() else None
    elif isinstance(value, str):
        written = bits == 64 and re.fullmatch(r"[+-]?[0-9]{1,19}", value)
        whole = int(value) if written else None
    if not isinstance(whole, int) or isinstance(whole, bool):
        raise BadPacket("bad_value", f"field {name}: {_shown(value)} is no integer")
    if not -(1 << (bits - 1)) <= whole < 1 << (bits - 1):
        raise BadPacket("bad_value", f"field {name}: {value!r} does not fit {bits} bits")
    return whole


def real(name: str, value: Any, *, single: bool = False) -> float | None:
    """Return a value as a float; None where it is null.

    Raises
    ------
    BadPacket
        If it is no number, or, with `single`, finite and too large for 32 bits.
    """
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadPacket("bad_value", f"field {name}: {_shown(value)} is no number")
    fits = abs(value) < 1 << 64 if isinstance(value, int) else True
    if single and fits and math.isfinite(value):
        fits = abs(value) <= _FLOAT_MAX
    if not fits:
        raise BadPacket("bad_value", f"field {name}: {_shown(value)} does not fit a float")
    return float(value)


def text(name: str, value: Any) -> str | None:
    """Return a value as text; None where it is null or NaN.

    Raises
    ------
    BadPacket
        If it is none, or no UTF-8.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise BadPacket("bad_value", f"field {name}: {_shown(value)} is no text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadPacket("bad_value", f"field {name}: {_shown(value)} is no UTF-8") from None
    return value


def truth(name: str, value: Any) -> bool | None:
    """Return a value as true or false; None where it is null or NaN.

    Raises
    ------
    BadPacket
        If it is no truth value, and neither 0 nor 1.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise BadPacket("bad_value", f"field {name}: {_shown(value)} is neither true nor false")
    return bool(value)


def fitting(name: str, value: Any, type_name: str) -> Any:
    """Return a value as a column of a type (``float``, ``bigint``, …) has it.

    Raises
    ------
    BadPacket
        If the column cannot hold it.
    """
    if type_name == "string":
        return text(name, value)
    if type_name == "boolean":
        return truth(name, value)
    if type_name in ("int", "bigint"):
        return integer(name, value, 32 if type_name == "int" else 64)
    return real(name, value, single=type_name == "float")


def own_values(
    record: Mapping[str, Any],
    columns: Mapping[str, Any],
    nulls: list[str],
    where: str = "",
) -> dict[str, Any]:
    """Return the values of the columns that a survey declares, as a record has them.

    A value that its column cannot hold costs itself alone: it is null, and `nulls` says so.

    Parameters
    ----------
    record : mapping
        An alert, or the record of one point.
    columns : mapping of str to OwnColumn
        The columns by name, with ``source`` and ``type``, see `surveys.OwnColumns`.
    nulls : list of str
        Takes what is wrong with each value that became null.
    where : str
        Place of the record, for what `nulls` takes: ``prv_candidates[3]``.
    """
    found: dict[str, Any] = {}
    for name, column in columns.items():
        value: Any = record
        for step in column.source.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is None:
            continue
        try:
            fit = fitting(column.source, value, column.type)
        except BadPacket as error:
            nulls.append(f"{where}: {error}" if where else str(error))
            continue
        if fit is not None and fit == fit:  # NaN is nothing
            found[name] = fit
    return found


def needed(name: str, value: Any) -> Any:
    """Return a value that must be there.

    Raises
    ------
    BadPacket
        If it is null.
    """
    if value is None:
        raise BadPacket("bad_value", f"{name} is missing")
    return value


def within(name: str, value: float, low: float, high: float) -> float:
    """Return a value from `low` to `high`.

    Raises
    ------
    BadPacket
        If it lies outside, or is NaN.
    """
    if not low <= value <= high:
        raise BadPacket("bad_value", f"{name} {value} is outside {low} to {high}")
    return value


def position(name: str, value: Any, axis: str) -> float | None:
    """Return right ascension or declination (`axis` is ra or dec); None where null or NaN.

    Raises
    ------
    BadPacket
        If it is no number, or lies outside the sky.
    """
    degrees = real(name, value)
    if degrees is None or math.isnan(degrees):
        return None
    return within(name, degrees, *POSITIONS[axis])


def is_magnitude(value: float) -> bool:
    """Say whether a number can be a magnitude or a limit (see `MAGNITUDES`)."""
    return MAGNITUDES[0] < value < MAGNITUDES[1]


def check_flux(flux: float, error: float, zp: float) -> None:
    """Refuse a flux, its error or its zero point that cannot be.

    Raises
    ------
    BadPacket
        If the zero point is no magnitude, or flux or error are of more than magnitude 0.
    """
    if not is_magnitude(zp):
        raise BadPacket("bad_value", f"zero point {zp} is not between 0 and 40")
    brightest = 10.0 ** (0.4 * zp)
    for name, value in (("flux", flux), ("error", error)):
        if not abs(value) <= brightest:
            raise BadPacket(
                "bad_value", f"{name} {value} at zero point {zp} is brighter than magnitude 0"
            )


def sign_of(name: str, value: Any) -> int:
    """Return the sign that a value says: 1 or -1.

    Known are the survey's words t, 1, f and 0; true, y, yes, +1 and their like, false, n, no, -1,
    in any case; and truth values and numbers that are 1, 0 or -1.

    Raises
    ------
    BadPacket
        If it says none. It is never taken as positive.
    """
    if isinstance(value, str):
        found = SIGNS.get(value.strip().lower())
    elif isinstance(value, int | float) and value in (-1, 0, 1):
        found = 1 if value == 1 else -1
    else:
        found = None
    if found is None:
        raise BadPacket("bad_value", f"{name} {_shown(value)} says no sign (t or 1, f or 0)")
    return found


def from_entries(
    packet: Mapping[str, Any],
    name: str,
    make: Callable[[Mapping[str, Any]], Any],
    faults: list[str],
    places: list[str] | None = None,
) -> list[Any]:
    """Return what `make` makes of the entries of a packet's list, which must be records.

    Parameters
    ----------
    packet : mapping
    name : str
        Of the list.
    make : callable
        Takes an entry; raises `BadPacket` where it cannot be.
    faults : list of str
        Takes the place (``prv_candidates[3]``) of each entry that cannot be, with why.
    places : list of str, optional
        Takes the place of each entry that is returned.

    Raises
    ------
    BadPacket
        If there is something else than a list.
    """
    found = packet.get(name)
    if found is None or (isinstance(found, float) and math.isnan(found)):
        return []
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        raise BadPacket("bad_value", f"field {name}: {_shown(found)} is no list")
    made = []
    for i, entry in enumerate(found):
        try:
            if not isinstance(entry, Mapping):
                raise BadPacket("bad_value", f"{_shown(entry)} is no record")
            made.append(make(entry))
        except BadPacket as error:
            faults.append(f"{name}[{i}]: {error}")
        else:
            if places is not None:
                places.append(f"{name}[{i}]")
    return made


def scalars(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some fields that are scalars which JSON can hold.

    Null, NaN and infinity are left out: JSON has one word for them at most.

    Raises
    ------
    BadPacket
        If a text is no UTF-8.
    """
    return {
        name: text(name, value) if isinstance(value, str) else value
        for name, value in fields.items()
        if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    }


def _shown(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:60]}…"
