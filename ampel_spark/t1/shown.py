"""The alert that stands for a state: the newest that its channel accepted by the state's time.

Selections name its columns, ``alert.reliability``, beside the results of units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.expressions import Expression
from ampel_spark.t1.states import numbers

__all__ = ["ALERT", "alert_columns", "alert_types", "newest_accepted"]

#: What expressions call the alert: ``alert.NAME``.
ALERT = "alert"

_SCALARS = frozenset({"boolean", "int", "bigint", "float", "double", "string"})


def alert_types(own: Mapping[str, str]) -> dict[str, str]:
    """Return the names of an alert's columns in expressions, with their Spark SQL types.

    Parameters
    ----------
    own : mapping of str to str
        The columns that the survey declares for its alerts, with types.
    """
    common = {c.name: c.type for c in alerts_table().columns if c.type in _SCALARS}
    return {f"{ALERT}.{name}": kind for name, kind in (common | dict(own)).items()}


def alert_columns(expressions: Iterable[Expression]) -> list[str]:
    """Return the columns of an alert that expressions name, without ``alert.``, in order."""
    names = {name for each in expressions for name in each.columns}
    return sorted(name.removeprefix(f"{ALERT}.") for name in names if name.startswith(f"{ALERT}."))


def newest_accepted(states: pa.Table, accepted: pa.Table) -> npt.NDArray[np.int64]:
    """Return the id of the newest accepted alert of each state; -1 where there is none.

    Parameters
    ----------
    states : Arrow table
        ``channel, stock, until_jd, until_alert_id`` of each state: its object and time.
    accepted : Arrow table
        ``channel, stock, jd, alert_id`` of accepted alerts.
    """
    names = ("channel", "stock", "jd", "alert_id")
    wanted = states.select(["channel", "stock", "until_jd", "until_alert_id"]).rename_columns(names)
    rows = pa.concat_tables([accepted.select(names), wanted], promote_options="permissive")
    key = numbers(rows, ("channel", "stock"))
    alert_id: npt.NDArray[Any] = rows["alert_id"].to_numpy()
    is_state = np.arange(len(rows)) >= len(accepted)
    order = np.lexsort((is_state, alert_id, rows["jd"].to_numpy(), key))
    # The last alert in this order, up to each row: it counts where it is of the same object.
    last = np.maximum.accumulate(np.where(is_state[order], -1, np.arange(len(order))))
    there = (last >= 0) & (key[order] == key[order][np.maximum(last, 0)])
    found = np.full(len(rows), -1, np.int64)
    found[order] = np.where(there, alert_id[order][np.maximum(last, 0)], -1)
    return found[len(accepted) :]
