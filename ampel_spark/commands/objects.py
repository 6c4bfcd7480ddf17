"""Commands on alerts and objects: explain, object."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.commands.output import print_pairs, print_rows, to_json
from ampel_spark.errors import ConfigError, LakeError
from ampel_spark.interface.places import lake_of
from ampel_spark.interface.run_view import RunView
from ampel_spark.lake.decisions import decisions_of
from ampel_spark.lake.reading import struct_columns
from ampel_spark.lake.runs import find_run, runs, whole

if TYPE_CHECKING:
    from ampel_spark.lake.runs import Run
    from ampel_spark.t0.gaia import StarCatalog
    from ampel_spark.t0.quantities import OwnQuantities

__all__ = ["explain", "show_object"]


def explain(args: Namespace) -> int:
    """Tell every cut of a channel's filter for one alert, with value and threshold, in every run.

    Runs that judged it alike are shown together.
    """
    lake = lake_of(args.lake)
    explained = [_explained(lake, run, args) for run in _runs(lake, args)]
    found = [each for each in explained if each is not None]
    if not found:
        raise LakeError(
            f"no alert {args.alert_id} that channel {args.channel!r} may see in lake {lake},"
            f" as {_saw(lake, args)} saw it"
        )
    if args.format == "json":
        print(to_json([row for each in found for row in each.as_rows()]))
        return 0
    groups: dict[str, list[_Explained]] = {}
    for each in found:
        groups.setdefault(each.said(), []).append(each)
    for n, group in enumerate(groups.values()):
        if n:
            print()
        _print_group(group)
    return 0


def _print_group(group: Sequence[_Explained]) -> None:
    """Print what runs made of an alert that judged it alike."""
    first = group[0]
    label = "run" if len(group) == 1 else "runs"
    ids = ", ".join(each.run_id for each in group)
    print_pairs({(label if k == "run" else k): (ids if k == "run" else v)
                 for k, v in first.head.items()})  # fmt: skip
    if first.rows:
        print()
        shown = [row | {"rejects where": row["rule"]} for row in first.rows]
        columns = ["position", "cut", "passed", "value", "threshold", "rejects where", "detail"]
        print_rows(shown, columns, "table")


@dataclasses.dataclass(frozen=True)
class _Explained:
    """What one run made of an alert.

    Attributes
    ----------
    run_id : str
    head : dict
        As it is printed.
    about : dict
        As JSON has it, before each cut.
    rows : list of dict
        One a cut.
    unknown : str
        Why there are none.
    """

    run_id: str
    head: dict[str, Any]
    about: dict[str, Any]
    rows: list[dict[str, Any]]
    unknown: str

    def said(self) -> str:
        """Return all but the run, to tell those together that are alike."""
        alike = {key: value for key, value in self.head.items() if key != "run"}
        return to_json([alike, self.rows])

    def as_rows(self) -> list[dict[str, Any]]:
        """Return one object a cut."""
        return [self.about | row for row in self.rows or [{"cut": None, "detail": self.unknown}]]


def _explained(lake: Path, run: Run, args: Namespace) -> _Explained | None:
    """Explain an alert in one run; None where the run did not see it."""
    import pyarrow.compute as pc

    from ampel_spark.interface.object_view import past
    from ampel_spark.journal import alerts_of, utc_of
    from ampel_spark.t0.explain import explain, history_of
    from ampel_spark.t0.filters import make_filter
    from ampel_spark.t0.selection import ChannelFilter

    rights = RunView(lake, run).access(args.channel)[args.channel]
    found = alerts_of(lake, pc.field("alert_id") == args.alert_id, run.inputs, rights)
    if not found:
        return None
    alert = found[0]
    step = run.filters[args.channel]
    earlier = [
        row
        for row in alerts_of(lake, pc.field("stock") == alert["stock"], run.inputs, rights)
        if (row["jd"], row["alert_id"]) < (alert["jd"], alert["alert_id"])
    ]
    stars, off = _stars(lake, run, step["gaia"])
    release, unknown = None, ""
    if step.get("photometry") == "calibrated":
        try:
            release = RunView(lake, run).release()
        except ConfigError as error:
            if args.run is not None:
                raise
            unknown = str(error)  # the other runs are explained all the same
    judged = ChannelFilter(
        args.channel,
        make_filter(
            step["filter"],
            step["config"],
            Path(run.job_file or Path.cwd() / "job.yml").parent,
            own=_own(lake, alert["survey"]),
        ),
        rights,
        history=step["history"],
        gaia=stars,
        release=release,
    )
    seen = None
    if judged.filter.judges and judged.filter.reads_history:
        calibrated = judged.release if judged.calibrates else None
        seen = past(lake, run, alert, rights, judged.history, calibrated)
    results = [] if unknown else explain(alert, judged, earlier, stars_off=off, past=seen)
    rows = [dataclasses.asdict(result) for result in results]
    history = history_of(alert, earlier, rights, step["history"])
    decision = _decision(lake, run, args.channel, alert["stock"], args.alert_id)
    first = next((row["cut"] for row in rows if row["passed"] is False), None)
    about = {key: alert[key] for key in ("alert_id", "name", "stock", "jd")}
    about |= {"channel": args.channel, "run_id": run.run_id, "filter": step["filter"]}
    head = {
        "alert": f"{alert['alert_id']} of {alert['name']}",
        "time": f"{utc_of(alert['jd'])} UTC, JD {alert['jd']:.5f}",
        "run": run.run_id,
        "channel": args.channel,
        "filter": step["filter"],
        "history": f"{step['history']}: {history['n_detections']} detections,"
        f" JD {history['jd_first']} to {history['jd_last']}",
        "decision": _verdict(decision, first),
        "cuts": f"not known: {unknown}" if unknown else None,
    }
    about |= {"decision": decision, "first_cut": first}
    return _Explained(run.run_id, head, about, rows, unknown)


def _own(lake: Path, survey: str) -> OwnQuantities:
    """Return the columns that the lake has of a survey's alerts beside those of all."""
    from ampel_spark.t0.quantities import OwnQuantities

    fields = struct_columns(lake, "alerts").get(survey, ())
    return OwnQuantities(survey, {field.name: field.type for field in fields})


def _runs(lake: Path, args: Namespace) -> list[Run]:
    """Return the runs that are asked for, the oldest first: one, or all that have the channel."""
    newest = find_run(lake, args.run or "latest")
    if args.run is not None:
        RunView(lake, newest).access(args.channel)
        return [newest]
    having = [
        whole(lake, run)
        for run in reversed(runs(lake))
        if args.channel is None or args.channel in run.channels
    ]
    if not having:
        RunView(lake, newest).access(args.channel)
    return having


def _saw(lake: Path, args: Namespace) -> str:
    runs = _runs(lake, args)
    return f"run {runs[0].run_id}" if len(runs) == 1 else f"any of {len(runs)} runs"


def show_object(args: Namespace) -> int:
    """Tell the journal of an object, in order of time: of every run, or of one."""
    from ampel_spark.journal import journal, whole_journal

    lake = lake_of(args.lake)
    found = [(run, RunView(lake, run).access(args.channel)) for run in _runs(lake, args)]
    if args.run is not None:
        entries = journal(lake, args.name, *found[0])
    else:
        entries = whole_journal(lake, args.name, found)
    columns = ["utc", "kind", "channel", "id", "status", "detail"]
    if args.format == "json" or len(found) == 1:
        print_rows(entries, columns, args.format)
        return 0
    ids = [run.run_id for run, _ in found]
    named = {run_id for entry in entries for run_id in entry["runs"]}
    rows = [
        {"": i + 1} | {key: getattr(run, key) for key in ("run_id", "job", "calibration", "status")}
        for i, (run, _) in enumerate(found)
        if run.run_id in named
    ]
    print_rows(rows, ["", "run_id", "job", "calibration", "status"], "table",
               empty=f"none of {len(found)} runs has more of it than alerts")  # fmt: skip
    print()
    shown = [entry | {"runs": _numbers(entry["runs"], ids)} for entry in entries]
    print_rows(shown, ["utc", "kind", "channel", "id", "status", "runs", "detail"], "table")
    return 0


def _numbers(runs: Sequence[str], ids: Sequence[str]) -> str:
    """Return the numbers of runs in few words: ``1-3, 5``; nothing for what is of no run."""
    places = sorted(ids.index(run) + 1 for run in runs)
    spans: list[list[int]] = []
    for place in places:
        if spans and spans[-1][1] == place - 1:
            spans[-1][1] = place
        else:
            spans.append([place, place])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _stars(lake: Path, run: Run, name: str | None) -> tuple[StarCatalog | None, str]:
    """Return the stars that a run's veto asked, or None and why there are none."""
    from ampel_spark.t0.gaia import StarCatalog

    if name is None:
        return None, "the run had no catalogue of stars"
    files = _star_files(lake, run, name)
    for file in files:
        if not file.exists():
            return None, f"the run's catalogue {file} is no longer there"
    stars = StarCatalog.open(name, files)
    read = run.inputs.catalogs.get(name)
    if read is not None and read.stars not in (None, stars.content_hash):
        return None, f"the catalogue {files[0]} has changed since the run"
    return stars, ""


def _star_files(lake: Path, run: Run, name: str) -> list[Path]:
    from ampel_spark.job.configuration.load import simulated_dir
    from ampel_spark.job.configuration.model import SimulationEntry

    job = run.job_resolved
    catalog = job["catalog"][name]
    if catalog["file"] is not None:
        return [Path(catalog["file"])]
    if catalog.get("lake") is not None:
        from ampel_spark.sky.store import Stored, folder_of

        stored = Stored.open(folder_of(lake, catalog["lake"]), catalog["version"])
        return [Path(file) for file in stored.files]
    simulation = SimulationEntry.model_validate(job["archive"]["simulate"])
    folder = simulated_dir(simulation, Path(job.get("survey", "ztf")).stem)
    return [folder / str(catalog["simulated"])]


def _decision(
    lake: Path, run: Run, channel: str, stock: int, alert_id: int
) -> dict[str, Any] | None:
    """Return what the run decided, None where it came to no decision."""
    import pyarrow.compute as pc

    rows = (pc.field("stock") == stock) & (pc.field("alert_id") == alert_id)
    found = decisions_of(lake, run, [channel], rows).to_pylist()
    keys = ("accepted", "cut", "value", "threshold", "bypassed", "group", "trace_id")
    return {key: found[0][key] for key in keys} if found else None


def _verdict(decision: Mapping[str, Any] | None, first: str | None) -> str:
    if decision is None:
        return "none in this run"
    if not decision["accepted"]:
        return f"rejected by {decision['cut']}"
    if decision["bypassed"]:
        return "accepted, as the object was accepted before" + (
            f" ({first} would reject it)" if first else ""
        )
    return "accepted"
