"""What a report says, as records: the report itself reads no table and starts no Spark job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy.typing as npt
import pandas as pd

from ampel_spark.lightcurve import LightCurve
from ampel_spark.t2.unit import Column
from ampel_spark.t3.plots import ModelCurve, Step

__all__ = [
    "ArchiveSummary",
    "Candidate",
    "Drawn",
    "FunnelCut",
    "Funnel",
    "Quarantined",
    "ReportContent",
    "Result",
    "RunSummary",
    "SampleOutput",
    "Selected",
    "StateCount",
    "UnitRun",
]


@dataclass(frozen=True)
class RunSummary:
    """The record of the run: what ran, on which versions, and how it ended."""

    run_id: str
    job: str
    job_text: str
    job_hash: str
    status: str
    started: datetime
    ended: datetime | None = None
    description: str = ""
    #: Why it failed.
    message: str = ""
    lake: str = ""
    survey: str = ""
    #: Survey time or table version the run was taken as of.
    as_of: str = ""
    calibration: str = "raw"
    parent_run_id: str = ""
    git_commit: str = ""
    #: Package versions.
    software: Mapping[str, str] = field(default_factory=dict)
    #: Versions of the tables read and written, by table.
    inputs: Mapping[str, int | str] = field(default_factory=dict)
    outputs: Mapping[str, int | str] = field(default_factory=dict)
    #: Trace of each filter and unit.
    traces: Mapping[str, str] = field(default_factory=dict)
    #: Seconds that each tier took.
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ArchiveSummary:
    """Accounting of one archive file: packets = stored + duplicate + quarantined."""

    path: str
    packets: int
    stored: int
    duplicate: int
    quarantined: int


@dataclass(frozen=True)
class Quarantined:
    """How often something was quarantined for one reason, with one example."""

    reason: str
    count: int
    example: str = ""


@dataclass(frozen=True)
class FunnelCut:
    """One cut of a tier: so many came in, so many were left."""

    tier: str
    name: str
    n_in: int
    n_out: int
    #: As text with its unit: ``≥ 0.65``.
    threshold: str = ""
    #: What is counted: alerts, objects, states.
    counted: str = "alerts"
    #: Lost because the answer is unknown; part of what is lost.
    n_unknown: int = 0
    #: It is switched off, and lets everything through.
    off: bool = False


@dataclass(frozen=True)
class Funnel:
    """One channel's way from the archive to the candidates."""

    channel: str
    #: The steps of the plot: what was left after each tier.
    stages: Sequence[Step]
    #: Every cut, in the order in which they are applied.
    cuts: Sequence[FunnelCut] = ()
    #: Data rights, such as ZTF_PUB.
    access: Sequence[str] = ()


@dataclass(frozen=True)
class StateCount:
    """States of one channel."""

    channel: str
    states: int
    objects: int
    #: States that no earlier run had made.
    new: int
    detections: int
    upper_limits: int
    #: Which states: ``latest``, ``alert``, ``as of 2018-06-01``.
    which: str = "latest"
    forced: int = 0


@dataclass(frozen=True)
class UnitRun:
    """What became of one unit: wanted = present + computed."""

    unit: str
    trace_id: str
    wanted: int
    #: Results that were there already.
    present: int
    computed: int
    #: Results by status, of all that were wanted.
    statuses: Mapping[int, int]
    #: What the unit's own status codes mean.
    meanings: Mapping[int, str] = field(default_factory=dict)
    #: Most frequent messages with their counts.
    messages: Sequence[tuple[str, int]] = ()
    #: Median time for one result, ms.
    median_ms: float | None = None
    #: Results by grade, and by what keeps them from being good, of a unit that grades them.
    qualities: Mapping[str, int] = field(default_factory=dict)
    doubts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Selected:
    """One selection (T3) and its candidates."""

    name: str
    channel: str
    #: Table with ``rank``, ``name``, ``stock`` and the columns asked for.
    candidates: pd.DataFrame
    condition: str = ""
    rank: str = ""
    limit: int | None = None
    #: Objects selected before the limit; None where it is not known.
    n_selected: int | None = None
    #: Unit of measure and meaning by column.
    units: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    #: Paths of the exported files.
    exports: Sequence[str] = ()
    #: What there are doubts about, by the candidate's name.
    doubts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawn:
    """A figure: its file, the form of that, and what it shows."""

    data: bytes
    form: str
    name: str
    caption: str = ""


@dataclass(frozen=True)
class SampleOutput:
    """What a unit of T3 made of the candidates of a selection."""

    name: str
    unit: str
    of: str
    plots: Sequence[Drawn] = ()
    messages: Sequence[str] = ()
    #: Paths of the files in the exports.
    files: Sequence[str] = ()
    #: Rows by table of the lake.
    tables: Mapping[str, int] = field(default_factory=dict)
    #: Why it did not come to its end.
    failure: str = ""


@dataclass(frozen=True)
class Result:
    """One unit's row for a candidate."""

    unit: str
    #: Values by column.
    values: Mapping[str, Any]
    #: The unit's declared columns: order, unit of measure, meaning.
    columns: Sequence[Column] = ()
    status: int = 0
    message: str = ""


@dataclass(frozen=True)
class Candidate:
    """A candidate to be shown at length."""

    name: str
    stock: int
    state_id: str
    #: Degrees, ICRS; galactic coordinates in degrees.
    ra: float
    dec: float
    gal_l: float
    gal_b: float
    light_curve: LightCurve
    results: Sequence[Result] = ()
    #: The row of the SALT unit that the curves are drawn from: z, t0, …, bands, model.
    fit: Mapping[str, Any] | None = None
    #: Positions (ra, dec in degrees) around it, by catalogue, for a finder chart.
    around: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]] = field(default_factory=dict)
    #: Image cutouts of its newest alert that has any in the lake, gzipped FITS by kind, and when
    #: that was, JD.
    cutouts: Mapping[str, bytes | None] = field(default_factory=dict)
    cutouts_jd: float | None = None


@dataclass(frozen=True)
class ReportContent:
    """All that a report says."""

    run: RunSummary
    selections: Sequence[Selected]
    candidates: Sequence[Candidate] = ()
    funnels: Sequence[Funnel] = ()
    archive: Sequence[ArchiveSummary] = ()
    quarantine: Sequence[Quarantined] = ()
    #: Alerts that the channels may see in each HEALPix cell of the sky (NESTED); empty: unknown.
    alerts_in_cells: npt.ArrayLike = ()
    states: Sequence[StateCount] = ()
    #: Distinct objects and states over all channels.
    totals: Mapping[str, int] = field(default_factory=dict)
    units: Sequence[UnitRun] = ()
    #: What the units of T3 made.
    samples: Sequence[SampleOutput] = ()
    #: What a reader must know: objects that ended in an exception, a broken file.
    warnings: Sequence[str] = ()
    #: What is good to know: cuts that are off.
    notes: Sequence[str] = ()
    #: Pulls, (fit - truth) / error, by parameter, where the truth is known.
    pulls: Mapping[str, npt.ArrayLike] = field(default_factory=dict)
    #: Makes the model of a fit's row; by default that of the SALT unit.
    model_of: Callable[[Mapping[str, Any]], ModelCurve] | None = None
