"""What a run has to say, gathered for the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy import units as u

from ampel_spark.archive.reading.cutouts import CUTOUTS
from ampel_spark.archive.truth import TRUTH
from ampel_spark.events.reading import holds_events
from ampel_spark.job.configuration.model import ResolvedJob, SelectionStep
from ampel_spark.job.execution.tiers import (
    Computed,
    Context,
    Results,
    channel_filter,
    selections_of,
)
from ampel_spark.lake.reading import dataset, read
from ampel_spark.lake.runs import Run
from ampel_spark.sky.catalogs import open_catalog
from ampel_spark.sky.healpix import ORDER
from ampel_spark.t0.cuts import MASKED, Cut
from ampel_spark.t0.selection import cuts_off
from ampel_spark.t1.assemble import batch_of
from ampel_spark.t2.fits.quality import DOUBTS
from ampel_spark.t3 import content as c
from ampel_spark.t3.plots import Step
from ampel_spark.t3.stamps import KINDS

if TYPE_CHECKING:
    import pandas as pd

    from ampel_spark.lightcurve import LightCurve

__all__ = ["column_meanings", "light_curves_of", "pulls", "report_content"]

#: Most frequent messages of a unit that the report shows.
_MESSAGES = 5
_FIT = "salt_fit"
#: Distance up to which a finder chart shows rows of catalogues, to its corners, arcsec.
_CHART = 43.0
#: HEALPix order of the cells of the map of the alerts.
_CELLS = 4
#: Types that Spark's whole numbers have in Arrow.
_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
#: Candidates whose fits are looked at for doubts.
_MARKED = 5_000
#: Newest detections of a candidate among which its cutouts are looked for.
_IMAGES = 50


def column_meanings(
    job: ResolvedJob, selection: SelectionStep
) -> tuple[dict[str, str], dict[str, str]]:
    """Return units of measure and meanings of a selection's columns, by label."""
    declared = {
        f"{step.name}.{column.name}": column for step in job.units for column in step.columns
    }
    units, meanings = {}, {}
    for label, expression in selection.columns.items():
        column = declared.get(expression.name or "")
        units[label] = column.unit if column else ""
        meanings[label] = column.description if column else expression.text
    return units, meanings


def report_content(
    context: Context,
    run: Run,
    found: Mapping[str, Any],
    results: Results,
    exported: Sequence[Path],
    made: Sequence[c.SampleOutput] = (),
) -> c.ReportContent:
    """Gather the content of a run's report.

    Parameters
    ----------
    context : Context
        Of the run, its staging still there.
    run : Run
        Finished.
    found : mapping of str to Arrow table
        Candidates by selection.
    results : dict
        Results of the units.
    exported : sequence of Path
    made : sequence of SampleOutput
        By units of T3.
    """
    job = context.job
    limit = job.report.candidates if job.report is not None else 0
    doubts = _doubts(found, results)
    archive = _archive(context)
    warnings = [
        f"{f.path}: {f.quarantined} packets are in quarantine" for f in archive if f.quarantined
    ][:20]
    return c.ReportContent(
        run=_run(context, run),
        selections=[_selected(context, s, found[s.name], exported, doubts) for s in job.selections],
        candidates=_candidates(context, found, results, limit),
        funnels=[_funnel(context, name) for name in job.channels],
        archive=archive,
        quarantine=_quarantine(context),
        alerts_in_cells=_alerts_in_cells(context),
        states=_states(context),
        totals={k: context.counts.t1[k] for k in ("objects", "states")},
        units=[_unit(context, run, result) for result in results.values()],
        samples=made,
        warnings=warnings,
        notes=[*job.notes, *_off(context)],
        pulls=pulls(context, results),
    )


def _run(context: Context, run: Run) -> c.RunSummary:
    traces = {f"T0 {channel}": trace for channel, trace in run.traces.t0.items()}
    for tier, units in (("T2", run.traces.t2), ("T3", run.traces.t3)):
        traces |= {f"{tier} {name}": trace.trace_id or "" for name, trace in units.items()}
    return c.RunSummary(
        run_id=run.run_id,
        job=run.job,
        job_text=run.job_text,
        job_hash=run.job_hash,
        status=run.status,
        started=run.started,
        ended=run.ended,
        description=context.job.description,
        message=run.message or "",
        lake=str(context.lake.root),
        survey=context.job.survey.name,
        as_of="" if context.as_of is None else f"JD {context.as_of:.5f}",
        calibration=run.calibration,
        parent_run_id=run.parent_run_id or "",
        git_commit=run.git_commit or "",
        software=run.software,
        inputs=run.inputs.to_json(),
        outputs=run.outputs,
        traces=traces,
        seconds=run.counts.seconds,
    )


def _alerts_in_cells(context: Context) -> Any:
    """Count the alerts that the job's channels may see in each cell, file after file."""
    rights = sorted({p for channel in context.job.channels.values() for p in channel.programids})
    where = pc.field("survey") == context.job.survey.label
    where &= pc.field("programid").isin(rights)
    if context.as_of is not None:
        where &= pc.field("jd") <= context.as_of
    alerts = dataset(context.lake.root, "alerts", context.versions.alerts)
    found = np.zeros(12 << (2 * _CELLS), np.int64)
    for batch in alerts.to_batches(columns=["hpx"], filter=where):
        hpx = batch.column("hpx").drop_null().to_numpy(zero_copy_only=False)
        found += np.bincount(hpx[hpx >= 0] >> (2 * (ORDER - _CELLS)), minlength=len(found))
    return found


def _archive(context: Context) -> list[c.ArchiveSummary]:
    names = ["path", "packets", "stored", "duplicate", "quarantined"]
    table = context.lake.arrow("archive_files", names, context.versions.archive_files)
    rows = sorted(table.to_pylist(), key=lambda r: (Path(r["path"]).name, r["path"]))
    return [c.ArchiveSummary(**row) for row in rows]


def _quarantine(context: Context) -> list[c.Quarantined]:
    names = ["reason", "detail"]
    rows = context.lake.arrow("quarantine", names, context.versions.quarantine).to_pylist()
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(row["reason"], []).append(row["detail"])
    return [
        c.Quarantined(reason, len(details), min(details))
        for reason, details in sorted(by_reason.items())
    ]


def _funnel(context: Context, channel: str) -> c.Funnel:
    counts, job = context.counts, context.job
    t0 = counts.t0[channel]
    filter_step = next(step for step in job.filters if step.channel == channel)
    rules = {cut.name: cut for cut in (MASKED, *channel_filter(job, filter_step).cuts())}
    cuts, left = [], t0["alerts"]
    for name, lost in t0["cuts"]:
        rule = rules.get(name)  # none of what a filter's own `judge` says
        off = rule is not None and rule.needs_stars and filter_step.gaia is None
        text = "" if rule is None else _rule(rule)
        cuts.append(c.FunnelCut("T0", name, left, left - lost, threshold=text, off=off))
        left -= lost
    steps = [
        Step("alerts", t0["alerts"]),
        Step("accepted alerts", t0["accepted"]),
        Step("objects", t0["objects"]),
    ]
    t1 = counts.t1["channels"].get(channel, {"states": 0})
    steps.append(Step("states", t1["states"]))
    for selection in job.selections:
        t3 = counts.t3[selection.name]
        if selection.channel == channel:
            for cut in (t3["losses"] or {}).get("cuts", ()):
                cuts.append(
                    c.FunnelCut(
                        "T3",
                        cut["cut"],
                        cut["n_in"],
                        cut["n_out"],
                        counted="states",
                        n_unknown=cut["n_unknown"],
                    )
                )
            steps.append(Step(selection.name, t3["candidates"]))
    return c.Funnel(channel, steps, cuts, job.channels[channel].access)


def _rule(cut: Cut) -> str:
    """Return in few words where a cut rejects, unless its name says it."""
    if len(cut.rejects.names) > 3:
        return f"one of {len(cut.rejects.names)} values is missing"
    return "" if cut.name in cut.rejects.text else cut.rejects.text


def _states(context: Context) -> list[c.StateCount]:
    mode = context.job.states.mode
    which = (
        "as of " + ", ".join(f"JD {t:.2f}" for t in context.job.states.as_of)
        if mode == "as_of"
        else mode
    )
    channels = context.counts.t1["channels"]
    return [
        c.StateCount(channel=name, which=which, **counts)
        for name, counts in sorted(channels.items())
    ]


def _unit(context: Context, run: Run, done: Computed) -> c.UnitRun:
    name = done.step.name
    tier = context.counts.t2[name]
    messages = done.table(["message"], pc.field("message").is_valid())["message"]
    counted = [(-pair["counts"], pair["values"]) for pair in pc.value_counts(messages).to_pylist()]
    most = sorted(counted)[:_MESSAGES]
    return c.UnitRun(
        unit=name,
        trace_id=run.traces.t2[name].trace_id or "",
        wanted=tier["wanted"],
        present=tier["present"],
        computed=tier["computed"],
        statuses={int(k): v for k, v in tier["statuses"].items()},
        meanings=done.step.unit.meanings,
        messages=[(message, -n) for n, message in most],
        median_ms=tier["median_ms"],
        qualities=tier.get("qualities", {}),
        doubts=tier.get("doubts", {}),
    )


def _doubts(found: Mapping[str, Any], results: Results) -> dict[str, str]:
    """Return what there are doubts about in the fits of candidates, by state."""
    states = sorted({s for table in found.values() for s in table["state_id"].to_pylist()})
    said: dict[str, str] = {}
    for done in results.values():
        if done.step.spec != _FIT or not states:
            continue
        mine = pc.field("state_id").isin(states[:_MARKED]) & (pc.field("quality") != "good")
        for row in done.table(["state_id", "quality", "doubts"], mine).to_pylist():
            words = ", ".join(DOUBTS.get(doubt, doubt) for doubt in row["doubts"])
            said.setdefault(row["state_id"], f"{row['quality']}: {words}")
    return said


def _selected(
    context: Context,
    selection: SelectionStep,
    table: Any,
    exported: Sequence[Path],
    doubts: Mapping[str, str],
) -> c.Selected:
    units, meanings = column_meanings(context.job, selection)
    lost = context.counts.t3[selection.name]["losses"]
    return c.Selected(
        name=selection.name,
        channel=selection.channel,
        candidates=_frame(table.drop_columns(["channel", "state_id"])),
        condition=selection.select.text,
        rank=selection.rank.text if selection.rank else "",
        limit=selection.limit,
        n_selected=lost["objects"] if lost else 0,
        units=units,
        descriptions=meanings,
        exports=[str(p) for p in exported if p.stem == selection.name],
        doubts={
            name: doubts[state]
            for name, state in zip(
                table["name"].to_pylist(), table["state_id"].to_pylist(), strict=True
            )
            if state in doubts
        },
    )


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as pandas; integers with nulls stay integers, which a float may round."""
    frame = cast("pd.DataFrame", table.to_pandas(integer_object_nulls=True))
    gaps = [f.name for f in table.schema if f.type in _INTEGERS and table[f.name].null_count]
    return frame.astype(dict.fromkeys(gaps, "Int64"))


def _candidates(
    context: Context, found: Mapping[str, Any], results: Results, limit: int
) -> list[c.Candidate]:
    """Return the first `limit` candidates of all selections, each with light curve and results."""
    wanted: list[str] = []
    for table in found.values():
        wanted += [s for s in table["state_id"].to_pylist() if s not in wanted]
    wanted = wanted[:limit]
    if not wanted:
        return []
    curves = light_curves_of(context, wanted)
    rows: dict[str, dict[str, list[c.Result]]] = {}
    fits: dict[str, dict[str, Any]] = {}
    for name, done in results.items():
        step = done.step
        names = ["state_id", "status", "message", *(column.name for column in step.columns)]
        for values in done.table(names, pc.field("state_id").isin(wanted)).to_pylist():
            own = {column.name: values[column.name] for column in step.columns}
            result = c.Result(name, own, step.columns, values["status"], values["message"] or "")
            rows.setdefault(values["state_id"], {}).setdefault(name, []).append(result)
            if step.spec == _FIT and values["status"] >= 0 and values.get("t0") is not None:
                fits.setdefault(values["state_id"], values)
    images = _cutouts(context, curves.values())
    shown = []
    for state_id in wanted:
        curve = curves[state_id]
        ra, dec = curve.position()
        lon, lat = _galactic(ra, dec)
        mine = [r for name in results for r in rows.get(state_id, {}).get(name, [])]
        shown.append(
            c.Candidate(
                curve.name,
                curve.stock,
                state_id,
                ra,
                dec,
                lon,
                lat,
                curve,
                mine,
                fits.get(state_id),
                _around(context.job, ra, dec),
                *_newest(curve, images),
            )
        )
    return shown


def _cutouts(
    context: Context, curves: Iterable[LightCurve]
) -> Mapping[int, Mapping[str, bytes | None]]:
    """Return the cutouts that the lake has of alerts whose own detection is in light curves.

    So nobody sees an image of an alert that the state does not hold.
    """
    if not context.lake.has(CUTOUTS.name):
        return {}
    # The alert of a detection has its id. The newest ones will do.
    ids = [int(i) for curve in curves for i in curve.detections.datapoint_id[-_IMAGES:] if i > 0]
    mine = pc.field("alert_id").isin(ids)
    rows = read(context.lake.root, CUTOUTS.name, ["alert_id", *KINDS], mine).to_pylist()
    return {row["alert_id"]: {kind: row[kind] for kind in KINDS} for row in rows}


def _newest(
    curve: LightCurve, images: Mapping[int, Mapping[str, bytes | None]]
) -> tuple[Mapping[str, bytes | None], float | None]:
    detections = curve.detections
    for number, jd in zip(detections.datapoint_id[::-1], detections.jd[::-1], strict=True):
        if int(number) in images:
            return images[int(number)], float(jd)
    return {}, None


def _around(job: ResolvedJob, ra: float, dec: float) -> dict[str, tuple[Any, Any]]:
    """Return what lies around a position in the job's catalogues, as far as a chart reaches."""
    found: dict[str, tuple[Any, Any]] = {}
    for catalog in job.catalogs.values():
        if catalog.file is None or not np.isfinite(ra) or holds_events(catalog.file):
            continue
        opened = open_catalog(
            catalog.file, catalog.version, catalog.ra, catalog.dec, catalog.columns, catalog.id
        )
        near = opened.around([ra], [dec], _CHART, ())
        pairs = near.within([ra], [dec], _CHART)
        found[catalog.name] = (near.ra[pairs.row], near.dec[pairs.row])
    return found


def light_curves_of(context: Context, state_ids: Sequence[str]) -> dict[str, LightCurve]:
    """Return light curves of a run by state."""
    if not state_ids:
        return {}
    assert context.states is not None  # T1 is over
    batches: list[pa.RecordBatch] = (
        context.states.curves_of(state_ids).combine_chunks().to_batches()
    )
    return {curve.state_id: curve for batch in batches for curve in batch_of(batch)}


def _galactic(ra: float, dec: float) -> tuple[float, float]:
    from astropy.coordinates import SkyCoord

    if not np.isfinite(ra):
        return float("nan"), float("nan")
    position = SkyCoord(ra * u.deg, dec * u.deg).galactic
    return float(position.l.deg), float(position.b.deg)


def _off(context: Context) -> list[str]:
    return [line for selection in selections_of(context.job) for line in cuts_off(selection)]


def pulls(context: Context, results: Results) -> dict[str, Any]:
    """Return (fit - truth) / error of simulated SNe Ia that were fitted well, by parameter.

    Empty where the archive is not a simulated one of this job, or nothing was fitted.
    """
    folder = context.job.simulated_in
    fits = [done for done in results.values() if done.step.spec == _FIT]
    if folder is None or not fits:
        return {}
    truth = context.lake.arrow(TRUTH, ["name", "kind", "t0", "x1", "c", "archive"]).to_pandas()
    truth = truth[truth.archive == folder.name]
    truth = truth[truth.kind == "snia"].set_index("name")
    names = [f"{name}{end}" for name in ("t0", "x1", "c") for end in ("", "_err")]
    good = fits[0].table(["name", "quality", *names], pc.field("status") == 0)
    rows = cast("pd.DataFrame", good.to_pandas())
    rows = rows[rows["name"].isin(truth.index) & (rows.quality == "good")]
    made = {}
    for name in ("t0", "x1", "c"):
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (rows[name] - truth.loc[rows["name"], name].to_numpy()) / rows[f"{name}_err"]
        made[name] = values[np.isfinite(values)].to_numpy()
    return made
