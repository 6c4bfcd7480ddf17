"""The trace of a unit: one hash over all that decides its results, beside what it reads.

Part of it are

- the unit's parameters, defaults included;
- its code (`ampel_spark.trace`), less the modules that its parameters leave out of use;
- the content of the files it reads: `Unit.files` and parameters of type `Path`;
- the versions of the libraries it declares.

Where files lie does not count, only what is in them. What `Unit.inputs` names, object by object, is
part of the input hash instead (`Unit.untraced`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ampel_spark.t2.unit import Unit
from ampel_spark.trace import content_of, trace_id_of

__all__ = ["Trace", "trace_of"]


@dataclass(frozen=True)
class Trace:
    """The trace of a unit.

    Attributes
    ----------
    trace_id : str
        Hash over `content`, 32 hexadecimal digits.
    unit : str
        How the unit was named; not part of the hash.
    content : mapping
        What went into the hash: ``class``, ``parameters``, ``code`` (digest of each module),
        ``files`` (name and digest; the names are for the reader and not hashed), ``libraries``.
    """

    trace_id: str
    unit: str
    content: Mapping[str, Any]


def trace_of(unit: Unit, spec: str) -> Trace:
    """Return the trace of a unit.

    Parameters
    ----------
    unit : Unit
        The unit, with its parameters.
    spec : str
        How the job names it, for the record.

    Raises
    ------
    UnitError
        If code or a file cannot be read, a library is not installed, or a parameter is of a kind
        that has no canonical form.
    """
    cls = type(unit)
    # What a class leaves out of use, its subclass may use.
    without = unit.unused_modules() if "unused_modules" in vars(cls) else ()
    content = content_of(unit, Unit, spec, without=without, untraced=cls.untraced)
    files = [file["sha256"] for file in content["files"]]
    return Trace(trace_id_of(content | {"files": files}), spec, content)
