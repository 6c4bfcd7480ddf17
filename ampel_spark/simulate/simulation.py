"""The whole simulation: from a few parameters to a folder of nightly files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ampel_spark.errors import ConfigError
from ampel_spark.simulate import record
from ampel_spark.simulate.assembly import Map, Segment, observe_chunk, workers, write_night
from ampel_spark.simulate.cutouts import CUTOUTS, stamp_pool
from ampel_spark.simulate.lightcurves import SALT
from ampel_spark.simulate.objects import KINDS, Objects, Sky
from ampel_spark.simulate.population import (
    counts_for_alerts,
    counts_for_objects,
    cut_to,
    make_objects,
)
from ampel_spark.simulate.record import Simulation
from ampel_spark.simulate.survey import FIELDS, field_grid, first_nid, make_schedule, night_name
from ampel_spark.simulate.tables import hosts_table, stars_table, truth_table
from ampel_spark.sky.dust import DustMap, toy_map

__all__ = ["QUICKSTART", "Progress", "simulate"]

#: The parameters of a small, interesting simulation that takes some seconds.
QUICKSTART: dict[str, Any] = {
    "alerts": 6000,
    "nights": 75,
    "first_night": "2024-03-01",
    "seed": 18,
}

#: A function of a step's name, its completed and its total amount; `simulate` reports to it.
Progress = Callable[[str, int, int], None]

# Raised by one whenever the same parameters make other bytes.
_FORMAT = 1
# Simulated nights before the archive, for histories.
_LOOK_BACK = 31
# Objects in a chunk: of the kinds with histories, and of the two with one or two detections.
_MANY, _FEW = 100, 2000


def simulate(
    out: Path | str,
    *,
    alerts: int | None = None,
    objects: int | None = None,
    nights: int,
    first_night: str,
    seed: int,
    workers: int = 1,
    cutouts: str = "small",
    dust: DustMap | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate an archive of ZTF alerts with known truth.

    The same parameters make the same bytes, with any number of workers. If the folder already holds
    the same complete simulation, nothing is written; a simulation that was killed is made again.

    Parameters
    ----------
    out : path
        The folder; it is made if it does not exist.
    alerts : int, optional
        The number of alerts. Asteroids and bogus sources fill up to it exactly, unless the other
        kinds make more alerts (in very small simulations).
    objects : int, optional
        The number of objects, in place of `alerts`; some objects have no alert.
    nights : int
        The length of the archive, cloudy nights included. The 31 nights before are simulated too,
        for the histories of the first packets.
    first_night : str
        The first night, YYYY-MM-DD (UTC), from 2018 to 2031.
    seed : int
        The seed of all random numbers, not negative.
    workers : int, optional
        The number of processes. More than one are spawned, so the caller's main module must be
        importable without side effects.
    cutouts : str, optional
        ``none``, ``small`` or ``real``: see `ampel_spark.simulate.cutouts`.
    dust : DustMap, optional
        The reddening of the Milky Way; by default the project's own toy map.
    progress : callable, optional
        Called as ``progress(step, done, total)`` with the steps ``objects`` and ``nights``.

    Returns
    -------
    Simulation
        The folder's files and numbers.

    Raises
    ------
    ConfigError
        If a parameter is wrong, or `out` holds other files.
    SetupError
        If SALT3 or the bands cannot be loaded.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> made = simulate(folder.name, objects=2, nights=3, first_night="2024-03-01", seed=2)
    >>> made.objects["asteroid"], made.objects["bogus"], made.nights
    (1, 1, {'20240302': 2})
    >>> [path.name for path in made.archives], made.truth.name
    (['ztf_public_20240302.tar.gz'], 'truth.parquet')
    >>> folder.cleanup()
    """
    dust = dust or toy_map()
    parameters = _parameters(alerts, objects, nights, first_night, seed, cutouts, dust)
    if not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"workers is {workers!r}; it must be 1 or more")
    out = Path(out).resolve()
    there = record.existing(out, parameters)
    if there is not None:
        return there
    with record.claimed(out):
        # Another process may have made it before this one had the lock.
        there = record.existing(out, parameters)
        return there or _make(out, parameters, dust, workers, progress)


def _make(
    out: Path, parameters: dict[str, Any], dust: DustMap, count: int, progress: Progress | None
) -> Simulation:
    """Make the simulation in a folder that this process has locked."""
    spool = record.clear(out)
    seed, first = parameters["seed"], first_nid(parameters["first_night"])
    last = first + parameters["nights"] - 1
    grid = field_grid()
    sky = Sky(grid, make_schedule(grid, first - _LOOK_BACK, last, seed), first, last, dust, seed)
    with workers(count, sky, stamp_pool(parameters["cutouts"], seed)) as do:
        objects, outcomes, segments = _observe(do, sky, spool, parameters, progress)
        files = _write(do, out, segments, progress)
    hosts, host_ids = hosts_table(objects, sky)
    stars, star_ids = stars_table(objects, sky)
    truth = truth_table(objects, outcomes, host_ids, star_ids, FIELDS)
    for name, table in zip(record.TABLES, (truth, hosts, stars), strict=True):
        pq.write_table(table, out / name, compression="zstd")
        files[name] = record.of_file(out / name, table.num_rows)
    kinds = np.bincount(objects["kind"], minlength=len(KINDS)).tolist()
    alerts = int(outcomes["n_alerts"].sum())
    return record.finish(out, parameters, alerts, dict(zip(KINDS, kinds, strict=True)), files)


def _observe(
    do: Map, sky: Sky, spool: Path, parameters: dict[str, Any], progress: Progress | None
) -> tuple[Objects, NDArray[np.void], dict[int, list[Segment]]]:
    """Make all objects and their packets, and write the packets to spool files by night."""
    alerts, objects = parameters["alerts"], parameters["objects"]
    outcomes: list[NDArray[np.void]] = []
    segments: dict[int, list[Segment]] = {}

    def run(made: Objects, chunk: int, before: int, total: int) -> None:
        # Small simulations have enough chunks for some workers, large ones chunks of limited size.
        size = max(min(chunk, -(-made.size // 16)), 1)
        starts = range(0, made.size, size)
        tasks = [(made[i : i + size], spool / f"{before + i:09d}") for i in starts]
        for start, (outcome, found) in zip(starts, do(observe_chunk, tasks), strict=True):
            outcomes.append(outcome)
            for segment in found:
                segments.setdefault(segment.nid, []).append(segment)
            if progress is not None:
                progress("objects", before + start + outcome.size, total)

    if alerts is not None:
        counts = counts_for_alerts(alerts, sky.nights)
        made = make_objects(counts, sky)
        run(made, _MANY, 0, made.size + alerts // 3)
        missing = max(alerts - int(sum(part["n_alerts"].sum() for part in outcomes)), 0)
        half = missing // 2
        fill = make_objects({"asteroid": half, "bogus": missing - half}, sky, before=made)
        fill = cut_to(missing, fill)
    else:
        counts = counts_for_objects(objects, sky.nights)
        made = make_objects({kind: counts[kind] for kind in KINDS[:4]}, sky)
        run(made, _MANY, 0, objects)
        fill = make_objects({kind: counts[kind] for kind in KINDS[4:]}, sky, before=made)
    run(fill, _FEW, made.size, made.size + fill.size)
    return np.concatenate([made, fill]), np.concatenate(outcomes), segments


def _write(
    do: Map, out: Path, segments: dict[int, list[Segment]], progress: Progress | None
) -> dict[str, Any]:
    """Write the nightly files, and return their entries in the record."""
    files: dict[str, Any] = {}
    tasks = [
        (out / record.archive_name(night_name(nid)), segments[nid]) for nid in sorted(segments)
    ]
    for (path, _), facts in zip(tasks, do(write_night, tasks), strict=True):
        files[path.name] = facts
        if progress is not None:
            progress("nights", len(files), len(tasks))
    return files


def _parameters(
    alerts: int | None,
    objects: int | None,
    nights: int,
    first_night: str,
    seed: int,
    cutouts: str,
    dust: DustMap,
) -> dict[str, Any]:
    """Check the parameters, and return those that the files depend on."""
    if (alerts is None) == (objects is None):
        raise ConfigError("give either the number of alerts or the number of objects")
    for name, value in (("nights", nights), ("alerts", alerts), ("objects", objects)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"{name} is {value!r}; it must be a positive whole number")
    if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise ConfigError(f"seed is {seed!r}; it must be a whole number that is not negative")
    if cutouts not in CUTOUTS:
        raise ConfigError(f"cutouts is {cutouts!r}; choose one of {', '.join(CUTOUTS)}")
    first_nid(first_night)
    values = np.ascontiguousarray(dust.values * dust.scale, "<f8")
    digest = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    return {
        "format": _FORMAT,
        "alerts": alerts,
        "objects": objects,
        "nights": nights,
        "first_night": first_night,
        "seed": seed,
        "cutouts": cutouts,
        "dust": f"{dust.name} {dust.ordering} {dust.frame} {digest}",
        "model": " ".join(SALT),
    }
