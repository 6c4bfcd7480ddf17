"""Conditions on the columns of a catalogue, in the language of `ampel_spark.expressions`.

::

    z > 0 and z < 0.1
    type in ['G', 'S'] or not (flag == 1)
    z_err is null
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.expressions import parse
from ampel_spark.expressions.kinds import BOOLEAN

__all__ = ["Condition"]


@dataclass(frozen=True)
class Condition:
    """A condition on columns; make it with `read`.

    Attributes
    ----------
    text : str
        As it was written.
    columns : tuple of str
        Columns that it names.
    """

    text: str
    columns: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Condition:
        """Read a condition.

        Raises
        ------
        ConfigError
            If it is none.
        """
        try:
            expression = parse(text)
        except ConfigError as error:
            raise ConfigError(f"condition {text!r} cannot be read: {error}") from None
        if expression.kind not in (BOOLEAN, None):
            raise ConfigError(f"condition {text!r} is a {expression.kind} and no condition")
        return cls(text, expression.names)

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows of a table meet it.

        Raises
        ------
        ConfigError
            If a column is absent, or of a type that cannot be compared so.
        """
        for name in self.columns:
            if name not in table.column_names:
                raise ConfigError(
                    f"condition {self.text!r}: no column {name!r}"
                    f"{nearest(name, table.column_names)}"
                )
        try:
            return parse(self.text).mask(table)
        except ConfigError as error:
            raise ConfigError(f"condition {self.text!r}: {error}") from None
