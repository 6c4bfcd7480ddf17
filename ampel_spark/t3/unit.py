"""What a unit of T3 is: typed parameters, and `process` on the candidates of a selection.

It is ordinary Python, and gives what it makes one after the other::

    from ampel_spark.t3 import Message, Plot, T3Unit

    class Redshifts(T3Unit):
        "How far away the candidates are."

        z: str = "z"
        "The redshift: a column of the selection, or an expression."

        def process(self, sample):
            z = sample.values(self.z)
            yield Message(f"median redshift {np.nanmedian(z):.3f}")
            yield Plot("redshifts", lambda figure: figure.add_subplot().hist(z))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from ampel_spark.errors import UnitError
from ampel_spark.t3.sample import Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["File", "Message", "Output", "Plot", "Rows", "T3Unit"]


@dataclass(frozen=True)
class Plot:
    """A figure, which goes into the report and, as a file, into the run's exports.

    Attributes
    ----------
    name : str
        Of the file, without its ending.
    figure : callable or matplotlib Figure
        A function that draws into the figure that it gets, in the style of the report; or a figure.
    caption : str
        What the report says below it, and to those who cannot see it.
    size : tuple of float
        Width and height, inches; of a function's figure.
    form : str
        ``svg``, or ``png`` where there are thousands of points.
    """

    name: str
    figure: Callable[[Figure], Any] | Figure
    caption: str = ""
    size: tuple[float, float] = (5.2, 3.6)
    form: str = "svg"

    def drawn(self) -> bytes:
        """Return the figure as a file."""
        from ampel_spark.t3.figures import draw, saved

        if callable(self.figure):
            return draw(self.size, self.figure, self.form)
        return saved(self.figure, self.form)


@dataclass(frozen=True)
class Rows:
    """Rows that the lake keeps under the run, in its table ``t3_<name of the entry>``.

    Attributes
    ----------
    columns : mapping of str to array-like, Arrow table or pandas DataFrame
        Numbers, texts, truth values, and lists of numbers or texts.
    units, meanings : mapping of str to str
        Unit of measure and meaning of columns.
    name : str
        Of a second table: it is ``t3_<name of the entry>_<name>``.
    """

    columns: Any
    units: Mapping[str, str] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    name: str = ""

    def arrow(self) -> pa.Table:
        """Return the rows as an Arrow table; NaN is null.

        Raises
        ------
        UnitError
            If they are none.
        """
        try:
            if isinstance(self.columns, pa.Table):
                return self.columns
            if isinstance(self.columns, Mapping):
                return pa.table({k: pa.array(v, from_pandas=True) for k, v in self.columns.items()})
            return pa.Table.from_pandas(self.columns, preserve_index=False)
        except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
            raise UnitError(f"rows are columns of one length, by name: {error}") from None


@dataclass(frozen=True)
class File:
    """A file, which goes into the run's exports, under the name of the entry.

    Attributes
    ----------
    name : str
        Its name; folders in it are made.
    content : bytes or str
    """

    name: str
    content: bytes | str

    def checked_name(self) -> str:
        """Return the name; raise `UnitError` if it leads out of the folder."""
        path = PurePosixPath(self.name)
        if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in self.name:
            raise UnitError(f"a file's name {self.name!r} leads out of the run's exports")
        return self.name

    def data(self) -> bytes:
        """Return the content as bytes."""
        return self.content.encode() if isinstance(self.content, str) else self.content


@dataclass(frozen=True)
class Message:
    """A line, which the run prints and the report shows."""

    text: str


Output: TypeAlias = Plot | Rows | File | Message


class T3Unit(BaseModel):
    """Base class of units of T3. Annotated fields are parameters.

    A string below a parameter is its description. A parameter of type `Path` is a file that the
    unit reads: a relative one starts from the job file's folder, and its content is part of the
    trace. A unit runs in the driver, in every run; what it raises costs its own outputs alone.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    #: Distributions whose version is part of the trace.
    libraries: ClassVar[Sequence[str]] = ()
    #: Whether it reaches people or services outside. It then runs in `run` alone: never in
    #: ``rerun``, ``reproduce`` or a variation.
    outward: ClassVar[bool] = False

    def reads(self) -> Sequence[str]:
        """Return the expressions that it takes of the sample: a job is checked for them."""
        return ()

    def files(self) -> Sequence[Path]:
        """Return files whose content decides what it makes, beside its parameters."""
        return ()

    def process(self, sample: Sample) -> Iterable[Output]:
        """Yield what is made of the candidates of a selection.

        Parameters
        ----------
        sample : Sample
            The candidates, with their results, light curves and the run's record.

        Yields
        ------
        Plot, Rows, File or Message
            What is yielded before an exception is kept.
        """
        raise NotImplementedError(f"{type(self).__name__} must define process")
