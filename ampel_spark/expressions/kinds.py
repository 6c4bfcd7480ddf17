"""Kinds of values, and which of them the types of Spark and of Arrow are."""

from __future__ import annotations

__all__ = ["BOOLEAN", "INTEGER", "NUMBER", "OTHER", "STRING", "is_narrow", "kind_of"]

#: An integer is a number too; it keeps all its digits where integers are compared.
INTEGER, NUMBER, STRING, BOOLEAN, OTHER = "integer", "number", "string", "boolean", "other"

_NARROW = {"tinyint", "smallint", "int", "int8", "int16", "int32", "uint8", "uint16", "uint32"}
_KINDS = {
    **dict.fromkeys((*_NARROW, "bigint", "long", "int64"), INTEGER),
    **dict.fromkeys(("float", "double", "halffloat"), NUMBER),
    **dict.fromkeys(("string", "large_string", "string_view"), STRING),
    **dict.fromkeys(("boolean", "bool"), BOOLEAN),
}


def kind_of(type_name: str) -> str:
    """Return the kind of a type of Spark SQL or of Arrow.

    Parameters
    ----------
    type_name : str
        Its name, as ``bigint``, ``int64`` or ``double``.

    Returns
    -------
    str
        ``integer``, ``number``, ``string``, ``boolean`` or ``other`` (arrays and the like).

    Examples
    --------
    >>> kind_of("bigint"), kind_of("double"), kind_of("array<double>")
    ('integer', 'number', 'other')
    """
    name = type_name.lower()
    return NUMBER if name.startswith("decimal") else _KINDS.get(name, OTHER)


def is_narrow(type_name: str) -> bool:
    """Return whether a double holds every integer of a type exactly."""
    return type_name.lower() in _NARROW
