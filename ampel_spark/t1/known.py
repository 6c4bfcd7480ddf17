"""States that an earlier run had made of the same points: they need not be made again.

A state is another one only if its object has new or revised datapoints, if other alerts of the
object were seen, if other times, kinds of points or data rights are asked for, if the release
touches a point of it, or if the code that makes states has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.lake.changes import changes
from ampel_spark.lake.reading import read, table_names
from ampel_spark.lake.runs import GOOD, PARTIAL, Run
from ampel_spark.t1.states import ALL, LAST_ID, numbers
from ampel_spark.trace import digest_of, trace_id_of

__all__ = ["CONTENT", "changed_stocks", "choose", "known_states", "trace"]

Array = npt.NDArray[Any]

#: Columns of a state that runs need, beside its id.
CONTENT = ("link", "n_detections", "n_upper_limits", "n_forced", "jd_first", "jd_last")

#: What makes states, beside this package's tables: see `trace`.
_CODE = ("t1/assemble.py", "t1/gather.py", "t1/links.py", "t1/photometry.py", "t1/rights.py",
         "t1/states.py", "archive/sightings.py", "calibration/apply.py", "calibration/cells.py",
         "lightcurve.py")  # fmt: skip

_PLACE = ("access", "stock", "until_jd", "until_alert_id")


@cache
def trace() -> str:
    """Return the hash of the code that makes states."""
    root = Path(__file__).parents[1]
    return trace_id_of({name: digest_of(root / name) for name in _CODE})


def choose(runs: Iterable[Run], survey: Any, release: str) -> Run | None:
    """Return the run whose states are likeliest to be those of a new one.

    Parameters
    ----------
    runs : iterable of Run
        The lake's, the newest first.
    survey : str
        The survey, as jobs name it.
    release : str
        The content hash of the new run's calibration release.

    Returns
    -------
    Run or None
        The newest run under the same release, else the newest one without a rule, else the newest.
    """
    fitting = [
        run
        for run in runs
        if run.status in (GOOD, PARTIAL)
        and run.traces.t1 == trace()
        and run.job_resolved.get("survey") == survey
    ]
    same = [run for run in fitting if release in run.inputs.calibrations.values()]
    raw = [run for run in fitting if not run.counts.calibration]
    return next(iter((*same, *raw, *fitting)), None)


def changed_stocks(lake: Path, before: Run, versions: dict[str, int]) -> Array | None:
    """Return the objects of which alerts or datapoints came or went since a run, sorted.

    None stands for all: the tables were written anew since, and it cannot be known.
    """
    found = [np.zeros(0, np.int64)]
    for name in ("alerts", "datapoints"):
        then = before.inputs.tables.get(name)
        if then is None:
            return None
        low, high = sorted((then, versions[name]))
        changed = changes(lake / name, low, high)
        if changed is None:
            return None
        for path in (*changed.added, *changed.removed):
            rows = pq.read_table(path, columns=["stock"], partitioning=None)
            found.append(np.unique(rows["stock"].to_numpy()))
    return np.unique(np.concatenate(found))


def known_states(
    lake: Path, before: Run, asked: pa.Table, points: Sequence[str], survey: str
) -> pa.Table:
    """Return requests whose state an earlier run had, with that state.

    Parameters
    ----------
    lake : path
        The root of the lake.
    before : Run
        The earlier run.
    asked : Arrow table
        Requests, with ``access``: each once.
    points : sequence of str
        The kinds of datapoints that are asked for.
    survey : str
        The survey of the objects.

    Returns
    -------
    Arrow table
        ``request, access, stock, state_id, rules`` and `CONTENT`.
    """
    links = _links(lake, before, points)
    both = pa.concat_tables([asked.select(list(_PLACE)), links.select(list(_PLACE))])
    key = numbers(both, _PLACE)
    mine, theirs = key[: len(asked)], key[len(asked) :]
    _, first = np.unique(theirs, return_index=True)
    at = np.searchsorted(theirs[first], mine)
    at[at == len(first)] = 0
    good = theirs[first][at] == mine if len(first) else np.zeros(len(mine), bool)
    rows = asked.select(["request", "access", "stock"]).filter(pa.array(good))
    had = links.take(pa.array(first[at[good]] if len(first) else np.zeros(0, np.int64)))
    rows = rows.append_column("state_id", had["state_id"]).append_column("rules", had["rules"])
    return _with_content(lake, rows, survey)


def _links(lake: Path, before: Run, points: Sequence[str]) -> pa.Table:
    """Return what states an earlier run had, and at which times."""
    names = ["stock", "state_id", "as_of_jd", "as_of_alert_id", "access", "rules"]
    mine = (pc.field("run_id") == before.run_id) & (pc.field("points") == ",".join(points))
    rows = read(lake, "state_channels", names, mine)
    until = pc.fill_null(rows["as_of_jd"], ALL)
    last = pc.fill_null(rows["as_of_alert_id"], LAST_ID)
    return rows.append_column("until_jd", until).append_column("until_alert_id", last)


def _with_content(lake: Path, rows: pa.Table, survey: str) -> pa.Table:
    """Add what there is to know of states; those of other surveys are left out."""
    names = ["state_id", *CONTENT]
    if not len(rows) or "states" not in table_names(lake):
        return _empty(rows)
    wanted = pc.field("stock").isin(pc.unique(rows["stock"])) & (pc.field("survey") == survey)
    content = read(lake, "states", names, wanted)
    place = pc.index_in(rows["state_id"], value_set=content["state_id"])
    there = pc.is_valid(place)
    rows, content = rows.filter(there), content.take(place.filter(there))
    for name in CONTENT:
        rows = rows.append_column(name, content[name])
    return rows


def _empty(rows: pa.Table) -> pa.Table:
    from ampel_spark.lake.parts import arrow_schema
    from ampel_spark.lake.tables import TABLES

    schema = arrow_schema(TABLES["states"])
    rows = rows.slice(0, 0)
    for name in CONTENT:
        rows = rows.append_column(name, pa.chunked_array([], schema.field(name).type))
    return rows
