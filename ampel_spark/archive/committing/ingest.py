"""Archive files into the lake: every member accounted for, every file once.

A chunk of files is decoded once into staging, then committed in a fixed order: ``sightings``,
``datapoints``, ``alerts``, ``quarantine``, and at last ``archive_files``, whose rows name the
versions that belong together. Readers pin the set that the newest marker names, so a chunk that was
killed half-way is not seen, and the next ingest takes it back before it begins.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.archive.committing.accounts import (
    Members,
    accounts_of,
    check_read,
    conflicts,
    decode,
    sort_packets,
    stored_of,
)
from ampel_spark.archive.committing.chunks import (
    CHUNK_BYTES,
    CHUNK_TABLES,
    Chunk,
    bad_before,
    chunks,
    looked_at,
    to_read,
    undo_unfinished,
)
from ampel_spark.archive.committing.datapoints import merge_datapoints, staged_files, withdraw
from ampel_spark.archive.committing.declared import ArchiveTables, archive_tables
from ampel_spark.archive.committing.staging import how_far
from ampel_spark.archive.reading import ztf
from ampel_spark.archive.reading.files import ArchiveFile, find_files, left_out, sizes_of
from ampel_spark.archive.reading.readers import Reader, check_settings, name_patterns, reader_of
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.errors import ArchiveError
from ampel_spark.lake.commits import add_parts, delete, insert, replace, written
from ampel_spark.lake.known import HASHES, check_known, hashes
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.lost import explained
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.progress import INTERVAL, progress
from ampel_spark.lake.runs import new_run_id, utc_now
from ampel_spark.lake.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["Ingested", "ingest"]

_COUNTS = ("packets", "stored", "duplicate", "quarantined", "broken")
_TOTALS = (*_COUNTS, "empty")

# Broken files whose reason is printed; table ``quarantine`` has those of all.
_SHOWN = 5

# All of time, for what is no longer bounded by what a chunk shows.
_EVER = (0.0, 1e7)


@dataclass(frozen=True)
class Ingested:
    """What an ingest did: files read, known already, broken or empty, and the packets' accounts.

    `known_bad` of the files known were broken, or held nothing that could be taken.
    """

    files: int
    known: int
    packets: int
    stored: int
    duplicate: int
    quarantined: int
    broken: int
    empty: int = 0
    known_bad: int = 0

    @property
    def code(self) -> int:
        """Exit code: 3 where files had content, and nothing of any of them was ever taken."""
        bad = self.broken + self.quarantined + self.known_bad
        taken = self.stored + self.duplicate + self.known - self.known_bad
        return 3 if bad and not taken else 0


@explained()
def ingest(
    spark: SparkSession,
    lake: str | Path | Lake,
    paths: Sequence[str | Path],
    survey: Survey | None = None,
    run_id: str | None = None,
    out: Callable[[str], None] = print,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    nightly: bool = False,
    replace: bool = False,
    interval: float = INTERVAL,
    schema: str | None = None,
) -> Ingested:
    """Read archives into the lake.

    Parameters
    ----------
    spark : SparkSession
    lake : path or Lake
    paths : sequence of path
        Directories, files or globs; see `ampel_spark.archive.reading.files.find_files`.
    survey : Survey, optional
        Whose files they are; ZTF's packets without it.
    run_id : str, optional
        Run to write into the rows; made from the time where it is not given.
    out : callable
        Takes lines that say how far it is.
    chunk_bytes : int, optional
        Bytes of files, as they are, that are committed at a time; a night is never cut.
    nightly : bool, optional
        Commit every night by itself.
    replace : bool, optional
        Where a file changed since it was read, what was read then gives way.
    interval : float, optional
        Seconds between the lines while files are read.
    schema : str, optional
        Schema [JSON] of Avro packets that do not have theirs with them. Files of which nothing
        could be taken before are read again.

    Raises
    ------
    ArchiveError
        If an archive does not exist, a file changed since it was read, or the accounts do not
        close.
    """
    survey = survey or Survey(name=ztf.SURVEY, access=ztf.ACCESS)
    if chunk_bytes <= 0:
        raise ArchiveError(f"chunk of {chunk_bytes} bytes: it must be more than nothing")
    lake = lake if isinstance(lake, Lake) else Lake(spark, lake)
    run_id = run_id or new_run_id("ingest", utc_now())
    patterns = name_patterns(survey)
    files = looked_at(lake, sizes_of(find_files(paths, patterns)))
    for line in left_out(paths, patterns):
        out(f"ingest: {line}")
    with lake.lock("archive"):
        check_known(lake.root)
        for unfinished in undo_unfinished(lake, run_id):
            out(f"ingest: took back chunk {unfinished}, which was never finished")
        files = looked_at(lake, files)  # another ingest may have read some meanwhile
        plan: list[Chunk] = []
        for chunk in to_read(lake, files, replace, survey, retry=schema is not None):
            if chunk.replaced:
                plan.append(chunk)
                out(f"ingest: {len(chunk.replaced)} files read before give way")
            else:
                plan += [Chunk(part) for part in chunks(chunk.files, chunk_bytes, nightly)]
        # Files that shared packets with one that gave way are read anew, asked for or not.
        to_come = {file.sha256 for chunk in plan for file in chunk.files}
        known = sum(file.sha256 is not None and file.sha256 not in to_come for file in files)
        if known:
            out(f"ingest: {known} of {len(files)} files were read before")
        before = _say_bad_before(lake, [f for f in files if f.sha256 not in to_come], out)
        reader = reader_of(survey, schema)
        tables = archive_tables(lake, survey)
        sums = _Sums(sum(len(chunk.files) for chunk in plan))
        for number, chunk in enumerate(plan):
            chunk_of = functools.partial(_ingest_chunk, lake, chunk, reader, survey, tables)
            sums.add(chunk_of(run_id, number, out, interval))
            out(sums.so_far())
        for line in sums.odd_ones(lake):
            out(line)
    return Ingested(sums.files, known, **sums.totals, known_bad=before)


def _say_bad_before(lake: Lake, files: list[ArchiveFile], out: Callable[[str], None]) -> int:
    """Say what was wrong with files read before; return of how many nothing could be taken."""
    before = [*bad_before(lake, files)]
    for _, line in before[:_SHOWN]:
        out(f"ingest: read before, {line}")
    if len(before) > _SHOWN:
        out(f"ingest: read before, broken or not taken: {len(before) - _SHOWN} files more")
    return sum(in_vain for in_vain, _ in before)


class _Sums:
    """The accounts of an ingest's files in one, and what they say."""

    def __init__(self, files: int) -> None:
        self.files = files
        self.totals = dict.fromkeys(_TOTALS, 0)
        self._done, self._started = 0, time.monotonic()
        self._entries = 0
        self._broken: list[str] = []
        self._asides: list[str] = []

    def add(self, accounts: Mapping[str, Mapping[str, Any]]) -> None:
        self._done += len(accounts)
        for path, account in accounts.items():
            for key in self.totals:
                self.totals[key] += account[key]
            self._entries += account["entry"]
            if account["broken"]:
                self._broken.append(
                    f"ingest: broken after {account['packets']} packets: {path}: {account['why']}"
                )
            if account["aside"]:
                self._asides.append(f"ingest: left out of {path}: {account['aside']}")

    def so_far(self) -> str:
        spent = max(time.monotonic() - self._started, 1e-9)
        to_come = self.files - self._done
        left = f", about {spent * to_come / self._done:.0f} s left" if to_come else ""
        totals = self.totals
        return (
            f"ingest: {self._done}/{self.files} files, {totals['packets']} packets "
            f"({totals['packets'] / spent:.0f}/s): {totals['stored']} stored, "
            f"{totals['duplicate']} duplicate, {totals['quarantined']} quarantined{left}"
        )

    def odd_ones(self, lake: Lake) -> Iterator[str]:
        """Yield lines on what was not taken as it is."""
        empty = self.totals["empty"]
        if empty:
            yield f"ingest: {empty} files are empty: no alert in a tar, no row in a table"
        yield from self._asides[:_SHOWN]
        if len(self._asides) > _SHOWN:
            more = len(self._asides) - _SHOWN
            yield f"ingest: left out of {more} files more: members that are no packets"
        yield from self._broken[:_SHOWN]
        if len(self._broken) > _SHOWN:
            yield f"ingest: broken: {len(self._broken) - _SHOWN} files more"
        if self._entries:
            yield (
                f"ingest: {self._entries} packets lack entries of their history, or values of the"
                " survey's own columns, that cannot be (bad_entry)"
            )
        if self._broken or self._entries or self.totals["quarantined"]:
            yield f"ingest: the reasons are in table quarantine of {lake.root}"


def _ingest_chunk(
    lake: Lake,
    chunk: Chunk,
    reader: Reader,
    survey: Survey,
    tables: ArchiveTables,
    run_id: str,
    number: int,
    out: Callable[[str], None],
    interval: float,
) -> Mapping[str, Mapping[str, Any]]:
    """Read a chunk, commit it, and return the accounts of its files."""
    from pyspark.sql import functions as f

    name = f"{run_id}-{number}"
    files = chunk.files
    info: dict[str, Any] = {"run_id": run_id, "chunk": name}
    if chunk.replaced:
        info["replaced"] = chunk.replaced
    with lake.staging(f"ingest-{name}") as folder:
        far = functools.partial(how_far, folder, {file.path: file.size for file in files})
        with progress(lake.spark, "ingest: reading", out, interval, far):
            members = decode(lake.spark, files, folder, run_id, tables, reader)
        if survey.reader != "ztf_avro":
            check_settings(members.others)
        check_read(members, files)
        if chunk.replaced:
            _give_way(lake, tables, chunk.replaced, info, folder)
        fates = sort_packets(lake, members, f"{folder}/repeated")
        accounts = accounts_of(members, fates, files)
        info["nights"] = sorted({n for a in accounts.values() for n in a["nights"]})
        shown = list(members.places.values())
        if fates is not None:
            stored = stored_of(members.points, fates, "first_alert_id")
            shown = staged_files(stored, f"{folder}/stored")
        merge_datapoints(lake, members, shown, info, folder)
        _add_alerts(lake, members, fates, info, folder)
        if any(a["quarantined"] or a["broken"] or a["entry"] for a in accounts.values()):
            bad = members.others.drop("row")
            if fates is not None:
                bad = bad.unionByName(conflicts(fates))
            insert(lake, TABLES["quarantine"], bad.withColumn("run_id", f.lit(run_id)), info)
        else:
            add_parts(lake, TABLES["quarantine"], [], info)
        _mark(lake, chunk, survey, accounts, info)
    return accounts


def _add_alerts(
    lake: Lake, members: Members, fates: DataFrame | None, info: Mapping[str, Any], folder: str
) -> None:
    """Add the stored alerts: the staged parts as they are, where all of them are to be stored."""
    table = members.tables.alerts
    lake.ensure(table)
    staged = [f"{folder}/{part.name}" for part in members.alerts]
    if fates is None:
        for path in staged:
            shutil.move(path, lake.path(table.name))
        add_parts(lake, table, members.alerts, info)
        return
    if not staged:
        add_parts(lake, table, [], info)
        return
    rows = lake.spark.read.schema(table.schema()).parquet(*staged)
    # Copies of a packet in one file are alike in all that is kept.
    rows = stored_of(rows, fates, "alert_id", "file").dropDuplicates(["survey", "alert_id"])
    add_parts(lake, table, written(lake, table, rows), info)


def _mark(
    lake: Lake,
    chunk: Chunk,
    survey: Survey,
    accounts: Mapping[str, Mapping[str, Any]],
    info: Mapping[str, Any],
) -> None:
    """Commit the marker of a chunk: its files, and the versions that belong together."""
    numbers = {name: lake.version(name) or 0 for name in CHUNK_TABLES}
    versions = {f"{name}_version": number for name, number in numbers.items()}
    # By number and by content: a number may be taken again, after a commit was lost.
    info = {**info, HASHES: hashes(lake.root, numbers)}
    table = TABLES["archive_files"]
    rows = []
    for file in chunk.files:
        a = accounts[file.path]
        nights = a["nights"] or [None]
        row = {
            "path": file.path, "sha256": a["sha256"], "survey": survey.label, "bytes": file.size,
            **{k: a[k] for k in _COUNTS}, "broken": a["broken"] > 0, "night_first": nights[0],
            "night_last": nights[-1], "chunk": info["chunk"], **versions,
            "run_id": info["run_id"],
        }  # fmt: skip
        rows.append(row)
    # That no other file stands here already was seen under the lock "archive", which is still held.
    gone = pc.field("path").isin(pa.array(list(chunk.replaced), pa.string()))
    replace(lake, table, pa.Table.from_pylist(rows, arrow_schema(table)), gone, info)


def _give_way(
    lake: Lake, tables: ArchiveTables, paths: list[str], info: Mapping[str, Any], folder: str
) -> None:
    """Take back all that was read from files."""
    from pyspark.sql import functions as f

    condition = _one_of("file", paths)
    withdraw(lake, tables, lake.read("alerts").where(f.expr(condition)), info, folder, _EVER)
    for table in (tables.alerts, TABLES["quarantine"]):
        delete(lake, table, condition, info)


def _one_of(column: str, values: list[str]) -> str:
    quoted = ("'" + v.replace("\\", "\\\\").replace("'", "\\'") + "'" for v in values)
    return f"{column} IN ({', '.join(quoted)})"
