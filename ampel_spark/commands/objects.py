"""Commands on alerts and objects: explain, object."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.commands.output import print_pairs, print_rows, to_json
from ampel_spark.commands.places import lake_of
from ampel_spark.errors import ConfigError, LakeError, nearest

if TYPE_CHECKING:
    from ampel_spark.t0.filters import Filter
    from ampel_spark.t0.gaia import StarCatalog

__all__ = ["access_of", "explain", "show_object"]

Run = Mapping[str, Any]


def explain(args: Namespace) -> int:
    """Tell every cut of a channel's filter for one alert, with value and threshold."""
    import pyarrow.compute as pc

    from ampel_spark.commands.cuts import cut_outcomes, history_of
    from ampel_spark.lake.journal import alerts_of, utc_of
    from ampel_spark.lake.reading import find_run
    from ampel_spark.t0.filters import make_filter

    lake = lake_of(args.lake)
    run = find_run(lake, args.run)
    rights = access_of(run, args.channel)[args.channel]
    found = alerts_of(lake, pc.field("alert_id") == args.alert_id, run, rights)
    if not found:
        raise LakeError(
            f"no alert {args.alert_id} that channel {args.channel!r} may see in lake {lake},"
            f" as run {run['run_id']} saw it"
        )
    alert = found[0]
    step = next(entry for entry in run["job_resolved"]["t0"] if entry["channel"] == args.channel)
    built = make_filter(step["filter"], step["config"])
    earlier = [
        row
        for row in alerts_of(lake, pc.field("stock") == alert["stock"], run, rights)
        if (row["jd"], row["alert_id"]) < (alert["jd"], alert["alert_id"])
    ]
    history = history_of(alert, earlier, rights, step["history"])
    stars, off = _stars(lake, run, step["gaia"])
    star = None if stars is None else _star(stars, built, alert)
    rows = [dataclasses.asdict(o) for o in cut_outcomes(alert, built, history, star, stars_off=off)]
    decision = _decision(lake, run, args.channel, args.alert_id)
    first = next((row["cut"] for row in rows if row["passed"] is False), None)
    if args.format == "json":
        head = {key: alert[key] for key in ("alert_id", "name", "stock", "jd")}
        head |= {"channel": args.channel, "run_id": run["run_id"], "filter": step["filter"]}
        print(to_json([head | {"decision": decision, "first_cut": first} | row for row in rows]))
        return 0
    print_pairs(
        {
            "alert": f"{alert['alert_id']} of {alert['name']}",
            "time": f"{utc_of(alert['jd'])} UTC, JD {alert['jd']:.5f}",
            "run": run["run_id"],
            "channel": args.channel,
            "filter": step["filter"],
            "history": f"{step['history']}: {history['n_detections']} detections,"
            f" JD {history['jd_first']} to {history['jd_last']}",
            "decision": _told(decision, first),
        }
    )
    print()
    shown = [row | {"rejects where": row["rule"]} for row in rows]
    columns = ["position", "cut", "passed", "value", "threshold", "rejects where", "detail"]
    print_rows(shown, columns, "table")
    return 0


def show_object(args: Namespace) -> int:
    """Tell the journal of an object, in order of time."""
    from ampel_spark.lake.journal import journal
    from ampel_spark.lake.reading import find_run

    lake = lake_of(args.lake)
    run = find_run(lake, args.run)
    entries = journal(lake, args.name, run, access_of(run, args.channel))
    columns = ["utc", "kind", "channel", "id", "status", "detail"]
    print_rows(entries, columns, args.format)
    return 0


def access_of(run: Run, channel: str | None = None) -> dict[str, frozenset[int]]:
    """Return the program ids that each channel of a run may see, or those of one channel.

    Raises
    ------
    ConfigError
        If the run has no such channel.
    """
    from ampel_spark.job.load import load_survey

    job = run["job_resolved"]
    survey = load_survey(job["survey"])
    access = {
        c["name"]: frozenset(survey.access[right] for right in c["access"]) for c in job["channel"]
    }
    if channel is None:
        return access
    if channel not in access:
        raise ConfigError(
            f"run {run['run_id']} has no channel {channel!r}{nearest(channel, access)}"
        )
    return {channel: access[channel]}


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
    read = run["inputs"].get(f"catalog {name}", {}).get("stars", stars.content_hash)
    if read != stars.content_hash:
        return None, f"the catalogue {files[0]} has changed since the run"
    return stars, ""


def _star_files(lake: Path, run: Run, name: str) -> list[Path]:
    from ampel_spark.job.load import simulated_dir
    from ampel_spark.job.model import Simulation

    job = run["job_resolved"]
    catalog = job["catalog"][name]
    if catalog["file"] is not None:
        return [Path(catalog["file"])]
    if catalog["lake"] is not None:
        from ampel_spark.sky.store import Stored, folder_of

        stored = Stored.open(folder_of(lake, catalog["lake"]), catalog["version"])
        return [Path(file) for file in stored.files]
    folder = simulated_dir(Simulation.model_validate(job["archive"]["simulate"]))
    return [folder / str(catalog["simulated"])]


def _star(
    stars: StarCatalog, built: Filter, alert: Mapping[str, Any]
) -> tuple[float, float] | None:
    """Return distance and allowed distance, arcsec, of the nearest star that vetoes an alert."""
    import numpy as np

    from ampel_spark.t0.filters import DecentFilter
    from ampel_spark.t0.gaia import GaiaRule, vetoes

    if not isinstance(built, DecentFilter):
        return None
    place = np.array([alert["ra"]]), np.array([alert["dec"]])
    distance, allowed = vetoes(stars, GaiaRule.of(built), *place)
    return (float(distance[0]), float(allowed[0])) if np.isfinite(distance[0]) else None


def _decision(lake: Path, run: Run, channel: str, alert_id: int) -> dict[str, Any] | None:
    """Return what the run decided, None where it came to no decision."""
    import pyarrow.compute as pc

    from ampel_spark.lake.reading import read, table_names

    if "decisions" not in table_names(lake):
        return None
    rows = (pc.field("run_id") == run["run_id"]) & (pc.field("channel") == channel)
    found = read(lake, "decisions", filters=rows & (pc.field("alert_id") == alert_id)).to_pylist()
    keys = ("accepted", "cut", "value", "threshold", "bypassed", "group", "trace_id")
    return {key: found[0][key] for key in keys} if found else None


def _told(decision: Mapping[str, Any] | None, first: str | None) -> str:
    if decision is None:
        return "none in this run"
    if not decision["accepted"]:
        return f"rejected by {decision['cut']}"
    if decision["bypassed"]:
        return "accepted, as the object was accepted before" + (
            f" ({first} would reject it)" if first else ""
        )
    return "accepted"
