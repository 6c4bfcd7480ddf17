"""What a unit is: typed parameters, declared columns, and `process` on one light curve.

A unit is ordinary Python and runs unchanged in a notebook, in a test and on a cluster::

    from ampel_spark.t2 import Column, Unit

    class RiseTime(Unit):
        "Days from the first detection to the brightest one."

        min_points: int = 3                       # a parameter: validated, with a default
        "Fewest detections it takes."             # its description

        columns = (Column("rise", "double", "d", "first detection to brightest detection"),)

        def process(self, light_curve):
            d = light_curve.detections
            if len(d) < self.min_points:
                raise Refusal(f"{len(d)} detections, {self.min_points} needed")
            return {"rise": d.jd[d.mag.argmin()] - d.jd[0]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from ampel_spark.lightcurve import LightCurve, LightCurveBatch

__all__ = [
    "EXCEPTION",
    "MISSING_DEPENDENCY",
    "MISSING_INFO",
    "OK",
    "TYPES",
    "Column",
    "Refusal",
    "Unit",
]

# AMPEL's document codes that a result's status can take; a unit's own codes are positive.
OK = 0
EXCEPTION = -4
MISSING_DEPENDENCY = -2006
MISSING_INFO = -2008

#: Column types a unit may declare, as Spark SQL names them.
TYPES = (
    "boolean", "int", "bigint", "double", "string", "array<bigint>", "array<double>",
    "array<string>",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a unit's table: name, Spark SQL type, unit of measure, meaning."""

    name: str
    type: str
    unit: str
    description: str


class Refusal(Exception):  # noqa: N818 - an outcome of a light curve, not an error
    """A deterministic "no result for this light curve": it becomes a row with `status`.

    Parameters
    ----------
    message : str
        Why, with the numbers.
    status : int
        -2008 (missing information) by default; a positive number is the unit's own code.
    """

    def __init__(self, message: str, status: int = MISSING_INFO) -> None:
        super().__init__(message)
        self.status = status


class Unit(BaseModel):
    """Base class of units. Annotated fields are parameters; `columns` declares the output.

    A string below a parameter is its description. A parameter of type `Path` is a file that the
    unit reads: a relative one starts from the job file's folder, and its content is part of the
    trace.

    Attributes
    ----------
    columns : sequence of Column
        What `process` returns, by name. Missing keys become null.
    needs : sequence of str
        Units whose results this one reads (ties): names of T2 entries of the job.
    libraries : sequence of str
        Distributions whose version is part of the trace (``("sncosmo", "iminuit")``).
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    columns: ClassVar[Sequence[Column]] = ()
    #: What the unit's own status codes (positive) mean.
    meanings: ClassVar[Mapping[int, str]] = {}
    libraries: ClassVar[Sequence[str]] = ()
    #: Parameters that are no part of the trace, as `inputs` tells what they name.
    untraced: ClassVar[Sequence[str]] = ()
    #: Fields of points that `inputs` and `subjects` look at.
    input_fields: ClassVar[Sequence[str]] = ("kind", "jd", "ra", "dec")
    #: Whether the unit reads what the object's table says of it (`object_header`).
    reads_header: ClassVar[bool] = False

    def output_columns(self) -> Sequence[Column]:
        """Columns of this unit's table; a function because parameters may decide."""
        return self.columns

    def needs(self) -> Sequence[str]:
        """Names of the units this one is tied to; a function because parameters may decide."""
        return ()

    def tied_columns(self) -> Mapping[str, Sequence[str]]:
        """Columns that are read of results in `needs`, by entry: a job is checked for them."""
        return {}

    def files(self) -> Sequence[Path]:
        """Files whose content decides the result (models, maps, catalogues): part of the trace."""
        return ()

    def unused_modules(self) -> Sequence[str]:
        """Modules and packages that these parameters leave out of use: no part of the trace.

        Such as those of an engine that is not asked for. A unit that uses one of them all the same
        is not computed anew when it changes: name what cannot run, and nothing else.
        """
        return ()

    def inputs(self, batch: LightCurveBatch) -> Sequence[str] | None:
        """Tell what is read beside each light curve, by a hash of its content.

        It becomes part of the result's input hash, so that a change there makes stale the results
        that it touches and no others. `batch` holds the `input_fields` of the points alone.

        Returns
        -------
        sequence of str with length M, or None
            None, the default: nothing is read but what the trace covers.
        """
        return None

    def subjects(self, batch: LightCurveBatch) -> Sequence[str] | None:
        """Say what is read of each object, where the unit looks at no photometry.

        Such as its position, as text. A result then belongs to the object and to this text: states
        that have both alike share it, and a calibration release makes none of them stale. `batch`
        holds the `input_fields` of the points alone, and the names.

        Returns
        -------
        sequence of str with length M, or None
            None, the default: the unit looks at light curves, and a result belongs to a state.
        """
        return None

    def point_fields(self) -> Sequence[str] | None:
        """Fields of a point that the unit reads, for speed; None for all of `POINT_FIELDS`.

        Columns that the survey's file declares for its points (``rb``, ``snr``) are there for a
        unit that names them: NaN where a point has none, -1 in ``bigint``, an empty word in
        ``string``. What they hold is part of the result's input hash.
        """
        return None

    def states_per_task(self) -> int:
        """Light curves that one task takes at least.

        The default keeps all cores busy with units that take long, and shows how far they are; more
        where a unit is fast, so that starting a task costs little beside it.
        """
        return 16

    def prepare(self) -> str | None:
        """Get ready, in the driver before any worker is asked: compile, check.

        Returns
        -------
        str or None
            A line for the user.
        """
        return None

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Compute the columns for one light curve: a batch of one, where there is no other form.

        Returns
        -------
        mapping of str to value
            Keys are names of `output_columns`. NaN becomes null. ``status`` and ``message`` may be
            among them, where there is a result and something to say of it.

        Raises
        ------
        Refusal
            Where there is deliberately no result. Any other exception becomes a row with status -4.
        """
        found = self.process_batch(LightCurveBatch.of([light_curve]))
        if found is None:
            raise NotImplementedError(f"{type(self).__name__} must define process or process_batch")
        if lengths := {name: len(each) for name, each in found.items() if len(each) != 1}:
            raise ValueError(f"process_batch returned {lengths} values for 1 light curve")
        row = {name: _plain(values[0]) for name, values in found.items()}
        status, message = row.pop("status", OK), row.pop("message", None)
        if status != OK and all(map(_is_nothing, row.values())):
            raise Refusal(message or "", status)
        says = status != OK or message
        return row | {"status": status, "message": message} if says else row

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any] | None:
        """Compute many light curves at once, for speed; None means "call `process` for each".

        Returns
        -------
        mapping of str to array-like with shape (M,)
            The columns, and ``status`` and ``message`` where they are not (0, "").
        """
        return None


def _plain(value: Any) -> Any:
    """Return a value of a column as plain Python has it."""
    if isinstance(value, pa.Scalar):
        return value.as_py()
    return value.item() if isinstance(value, np.generic) else value


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
