"""How far a fit is to be trusted: a grade, and the doubts that it rests on.

| doubt | when | grade |
| --- | --- | --- |
| `not_converged` | the search, or its rounds, came to no end | poor |
| `no_errors` | the data leave some direction free | poor |
| `at_bound` | a fitted parameter is at a bound | poor |
| `poor_chisq` | chi square per degree of freedom is above the unit's limit | poor |
| `model_edge` | a significant point at or beyond the model's first or last phase | doubtful |
| `no_rise` | no point before the maximum | doubtful |
| `no_decline` | no point at or after it | doubtful |
| `no_peak` | no point within ten rest-frame days of it | doubtful |
| `one_band` | the colour is fitted from one band | doubtful |
| `no_freedom` | as many parameters as points: chi square says nothing | doubtful |

A fit without a doubt is good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.t2.unit import Column

__all__ = ["COLUMNS", "DOUBTS", "DOUBTFUL", "GOOD", "POOR", "quality_columns"]

Array = npt.NDArray[Any]

GOOD, DOUBTFUL, POOR = "good", "doubtful", "poor"

#: Doubts in the order in which they are named, the gravest first, and what each says.
DOUBTS: Mapping[str, str] = {
    "not_converged": "the search came to no end",
    "no_errors": "the data leave some direction free",
    "at_bound": "a parameter at a bound",
    "poor_chisq": "a poor chi square",
    "model_edge": "points where the model ends",
    "no_rise": "no point before maximum",
    "no_decline": "no point after maximum",
    "no_peak": "no point near maximum",
    "one_band": "colour from one band",
    "no_freedom": "no degree of freedom",
}

_POOR = frozenset({"not_converged", "no_errors", "at_bound", "poor_chisq"})

COLUMNS = (
    Column("quality", "string", "", "good, doubtful or poor: what a cosmologist may use"),
    Column("doubts", "array<string>", "", f"why it is not good: {', '.join(DOUBTS)}"),
    Column("fitter_status", "string", "", "the fitter's own word for how it ended"),
)


def quality_columns(found: Mapping[str, Array]) -> dict[str, pa.Array]:
    """Return the columns `quality` and `doubts`.

    Parameters
    ----------
    found : mapping of str to ndarray of bool with shape (M,)
        For doubts among `DOUBTS`, of which fits they hold.
    """
    words = np.array([name for name in DOUBTS if name in found], object)
    mask = np.column_stack([np.asarray(found[name], bool) for name in words])
    poor = mask[:, [name in _POOR for name in words]].any(axis=1)
    grade = np.where(poor, POOR, np.where(mask.any(axis=1), DOUBTFUL, GOOD))
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int32)
    lists = pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(words[np.nonzero(mask)[1]], pa.string())
    )
    return {"quality": pa.array(grade.astype(object), pa.string()), "doubts": lists}
