"""Format 2: the input hash of a result is over the keys of tied results, no longer their values.

A row of format 1 is found by the runs that used it, as that format found it: by trace, and where a
state has several results under one trace, by the hash over the values of the run's own tied
results. It gets the hash of these results' keys. A row that runs used with tied results of
different keys and the same values becomes one row for each. Rows that no run used stay as they are.

Traces stay: results of older code remain those of their runs, and a run of newer code computes its
own.
"""

from __future__ import annotations

import fcntl
import json
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from deltalake import DeltaTable

from ampel_spark.errors import LakeError
from ampel_spark.files import files_in
from ampel_spark.lake.log import file_of, newest_version, replace_files
from ampel_spark.lake.parts import Part, PartWriter
from ampel_spark.lake.runs import Run, preference
from ampel_spark.lake.tables import RESULT_HEAD
from ampel_spark.lake.ties import key_hash, tied_hash

__all__ = ["old_hash", "rewrite"]

_KEY = ("state_id", "trace_id", "input_hash", "run_id", "status", "attempts")
_METADATA = {"upgrade": 2, "step": "input_hashes"}
#: Rows whose keys are held at a time.
_BUCKET = 500_000

#: A row of a table: number of its file, and its place in that.
Row = tuple[int, int]


def rewrite(root: Path, versions: Mapping[str, int], out: Callable[[str], None]) -> None:
    """Rewrite the input hashes of a lake's results.

    Parameters
    ----------
    root : Path
        The lake.
    versions : mapping of str to int
        The tables as they were before the upgrade.
    out : callable
        Takes lines for the user.
    """
    if not {"runs", "state_channels"} <= versions.keys():
        return
    runs = _runs(_dataset(root, "runs", versions["runs"]))
    tables = {
        name.removeprefix("t2_"): _Table(root / name, version)
        for name, version in versions.items()
        if name.startswith("t2_")
    }
    tied = sorted(unit for unit in tables if any(run.needs_of(unit) for run in runs))
    found = _new_hashes(root, versions, runs, tables, tied)
    for unit in tied:
        if rows := tables[unit].commit(found[unit]):
            out(f"upgrade: t2_{unit}: {rows} results have new input hashes")


def _new_hashes(
    root: Path,
    versions: Mapping[str, int],
    runs: Sequence[Run],
    tables: Mapping[str, _Table],
    tied: Sequence[str],
) -> dict[str, dict[Row, list[str]]]:
    """Return the new hashes of rows that get one, by unit; a share of the states at a time."""
    found: dict[str, dict[Row, list[str]]] = {unit: {} for unit in tied}
    for prefix in _prefixes(sum(table.rows for table in tables.values())):
        share = _Share(tables, runs, prefix)
        links = _dataset(root, "state_channels", versions["state_channels"]).to_table(
            ["run_id", "channel", "state_id"], filter=_begins(prefix)
        )
        states: dict[tuple[str, str], list[str]] = defaultdict(list)
        for link in links.to_pylist():
            states[link["run_id"], link["channel"]].append(link["state_id"])
        for run in runs:
            for unit in tied:
                if not run.needs_of(unit):
                    continue
                for channel in run.units[unit]["channel"]:
                    for state in states[run.run_id, channel]:
                        share.note(run, unit, state)
        for unit in tied:
            found[unit] |= share.hashes(unit)
    return found


def _prefixes(rows: int) -> Iterator[str]:
    """Yield beginnings of state ids, by which the states fall into shares of `_BUCKET` rows."""
    digits = 0
    while rows > _BUCKET * 16**digits:
        digits += 1
    yield from (f"{i:0{digits}x}" if digits else "" for i in range(16**digits))


def _begins(prefix: str) -> pc.Expression:
    return pc.starts_with(pc.field("state_id"), prefix)


class _Share:
    """The keys of all results of some states, and which results runs used of them."""

    def __init__(self, tables: Mapping[str, _Table], runs: Sequence[Run], prefix: str) -> None:
        self._tables = tables
        self._catalogs = {run.run_id: run.inputs.catalog_hashes for run in runs}
        self._at: dict[tuple[str, str, str], list[tuple[Row, Mapping[str, Any]]]] = (
            defaultdict(list)
        )  # fmt: skip
        for unit, table in tables.items():
            for row, key in table.keys(prefix):
                self._at[unit, key["trace_id"], key["state_id"]].append((row, key))
        #: By unit and new key: rows that claim it, and whether the old hash bears that out.
        self._claims: dict[tuple[str, str, str, str], dict[Row, bool]] = defaultdict(dict)

    def note(self, run: Run, unit: str, state: str) -> None:
        """Note the new hash of the result that a run used for a state."""
        used = self._used(run, unit, state)
        if used is not None:
            row, key = used
            new = self._new(run, unit, state, key)
            alone = len(self._at[unit, key["trace_id"], state]) == 1
            fits = alone or tied_hash(key["input_hash"]) == self._old(run, unit, state)
            claim = self._claims[unit, key["trace_id"], state, new]
            claim[row] = claim.get(row, False) or fits

    def hashes(self, unit: str) -> dict[Row, list[str]]:
        """Return the new hashes of each row; of rows that claim one key the likeliest gets it."""
        found: dict[Row, list[str]] = {}
        for (name, _, _, new), rows in self._claims.items():
            if name == unit:
                row = max(rows, key=lambda r: (rows[r], r))
                found.setdefault(row, []).append(new)
        return found

    def _used(self, run: Run, unit: str, state: str) -> tuple[Row, Mapping[str, Any]] | None:
        """Return the result that a run used for a state, as format 1 found it."""
        trace = run.traces.t2.get(unit)
        found = self._at.get((unit, trace.trace_id or "", state), []) if trace else []
        if len(found) < 2:
            return found[0] if found else None
        wanted, prefer = self._old(run, unit, state), preference(run.run_id, self._catalogs)

        def order(pair: tuple[Row, Mapping[str, Any]]) -> tuple[Any, ...]:
            key = pair[1]
            return tied_hash(key["input_hash"]) == wanted, *prefer(key["run_id"])

        return max(found, key=order)

    def _old(self, run: Run, unit: str, state: str) -> int:
        ties: dict[str, dict[str, Any]] = {}
        for need in run.needs_of(unit):
            used = self._used(run, need, state)
            ties[need] = {} if used is None else self._tables[need].values(used[0])
        return old_hash(ties, {need: self._tables[need].types for need in ties if ties[need]})

    def _new(self, run: Run, unit: str, state: str, key: Mapping[str, Any]) -> str:
        needs = run.needs_of(unit)
        if not needs:
            return str(key["input_hash"] or "")
        ties: dict[str, dict[str, Any] | None] = {}
        for need in needs:
            used = self._used(run, need, state)
            ties[need] = None
            if used is not None:
                ties[need] = {**used[1], "input_hash": self._new(run, need, state, used[1])}
        _, colon, inputs = (key["input_hash"] or "").partition(":")
        return f"{key_hash(ties)}{colon}{inputs}"


@dataclass(frozen=True)
class _Table:
    """A table of results as it was before the upgrade."""

    folder: Path
    version: int
    _values: dict[Row, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def _actions(self) -> list[dict[str, Any]]:
        table = DeltaTable(str(self.folder), version=self.version)
        actions = pa.table(table.get_add_actions(flatten=True))
        return sorted(actions.to_pylist(), key=lambda action: str(action["path"]))

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return sum(action["num_records"] for action in self._actions)

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        """Types of the columns that the old hash is over."""
        schema = _dataset(self.folder.parent, self.folder.name, self.version).schema
        return {f.name: f.type for f in schema if f.name == "status" or f.name not in RESULT_HEAD}

    def keys(self, prefix: str) -> Iterator[tuple[Row, Mapping[str, Any]]]:
        """Yield the keys of results of states whose id begins with `prefix`."""
        for number, action in enumerate(self._actions):
            path = self._path(action)
            names = [name for name in _KEY if name in pq.read_schema(path).names]
            keys = pq.read_table(path, columns=names, partitioning=None)
            keys = keys.append_column("row", pa.array(range(len(keys)), pa.int64()))
            for key in keys.filter(_begins(prefix)).to_pylist():
                yield (number, key.pop("row")), key

    def values(self, row: Row) -> dict[str, Any]:
        """Return status and the unit's own columns of one row."""
        if row not in self._values:
            # Asked for where a state has several results: whole files are kept, and few are.
            path = self._path(self._actions[row[0]])
            names = [n for n in pq.read_schema(path).names if n in self.types]
            for place, values in enumerate(
                pq.read_table(path, columns=names, partitioning=None).to_pylist()
            ):
                self._values[row[0], place] = values
        return self._values[row]

    def commit(self, hashes: Mapping[Row, Sequence[str]]) -> int:
        """Write the files anew whose rows have other hashes; return how many rows these are.

        Raises
        ------
        LakeError
            If something else was committed since the upgrade began.
        """
        lock = self.folder.parent / "_locks" / self.folder.name
        with lock.open("a") as stream, lock.with_name(f"{lock.name}.jvm").open("a") as jvm:
            fcntl.flock(stream, fcntl.LOCK_EX)
            fcntl.lockf(jvm, fcntl.LOCK_EX)  # that of a driver's JVM: see `Lake.lock`
            if newest_version(self.folder) != self.version:
                self._check_done()
                return 0
            parts: list[Part] = []
            old: list[str] = []
            count = 0
            by_file: dict[int, dict[int, Sequence[str]]] = defaultdict(dict)
            for (number, place), new in hashes.items():
                by_file[number][place] = new
            for number, action in enumerate(self._actions):
                part, changed = self._rewritten(self._path(action), by_file[number])
                if part is not None:
                    parts.append(part)
                    old.append(action["path"])
                    count += changed
            if parts:
                files = [part.as_file() for part in parts]
                replace_files(self.folder, files, old, self.version, _METADATA, changes=True)
        return count

    def _check_done(self) -> None:
        """Refuse to go on where the commit after the old version is none of this upgrade."""
        history = DeltaTable(str(self.folder)).history(1)[0]
        if json.loads(history.get("userMetadata") or "{}") != _METADATA:
            raise LakeError(
                f"table {self.folder.name} of lake {self.folder.parent} was written to since its "
                f"upgrade began: restore it to version {self.version}, then upgrade again"
            )

    def _path(self, action: Mapping[str, Any]) -> Path:
        return file_of(self.folder, action["path"])

    def _rewritten(
        self, path: Path, hashes: Mapping[int, Sequence[str]]
    ) -> tuple[Part | None, int]:
        """Write a file with its new hashes, where any differs; return it, and how many differ."""
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow.remove_metadata()
            before = file.read(columns=["input_hash"])["input_hash"].to_pylist()
            after = [hashes.get(i) or [text] for i, text in enumerate(before)]
            changed = sum(new != [text] for new, text in zip(after, before, strict=True))
            if not changed:
                return None, 0
            writer = PartWriter(self.folder, schema, self._noted(schema))
            begin = 0
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                new = after[begin : begin + len(rows)]
                begin += len(rows)
                places = [i for i, each in enumerate(new) for _ in each]
                column = pa.array([text for each in new for text in each], pa.string())
                at = schema.get_field_index("input_hash")
                writer.write(rows.take(places).set_column(at, "input_hash", column))
            return writer.close(), changed

    def _noted(self, schema: pa.Schema) -> list[str]:
        configuration = DeltaTable(str(self.folder)).metadata().configuration
        noted = (configuration.get("delta.dataSkippingStatsColumns") or "").split(",")
        return [name for name in noted if name in schema.names]


def _runs(dataset: Any) -> list[Run]:
    """Return the runs of a lake of format 1, the oldest first."""
    found = [Run.from_row(row) for row in dataset.to_table().to_pylist()]
    return sorted(found, key=lambda run: (run.started, run.run_id))


def _dataset(root: Path, name: str, version: int) -> Any:
    table = DeltaTable(str(root / name), version=version)
    return table.to_pyarrow_dataset(filesystem=files_in(root / name))


def old_hash(
    ties: Mapping[str, Mapping[str, Any]], types: Mapping[str, Mapping[str, pa.DataType]]
) -> int:
    """Return the hash over the values of tied results, as format 1 had it.

    It is Spark's ``xxhash64``: one value after the other, each with the hash so far as its seed (42
    at first); null changes nothing, lists are their elements in order. Before each value that is
    not null goes a number for its column, and after each list which of its elements are null.

    Parameters
    ----------
    ties : mapping of str to mapping of str to value
        ``status`` and the columns of a result, by the tied unit's name; empty: no result.
    types : mapping of str to mapping of str to DataType
        Types of these columns.
    """
    if not ties:
        return 0
    seed = 42
    for unit, values in sorted(ties.items()):
        for column in sorted(values, key=lambda name: (name != "status", name)):
            value = values[column]
            if value is None:
                continue
            number = xxhash.xxh64_intdigest(f"{unit}.{column}".encode())
            seed = xxhash.xxh64_intdigest(struct.pack("<Q", number), seed)
            kind = types[unit][column]
            if pa.types.is_list(kind):
                for part in value:
                    seed = _hashed(part, kind.value_type, seed)
                for part in value:
                    seed = _hashed(part is None, pa.bool_(), seed)
            else:
                seed = _hashed(value, kind, seed)
    return seed


def _hashed(value: Any, kind: pa.DataType, seed: int) -> int:
    if value is None:
        return seed
    if isinstance(value, str):
        data = value.encode()
    elif pa.types.is_floating(kind):
        # no negative zero
        data = struct.pack("<f" if kind == pa.float32() else "<d", value or 0.0)
    else:
        data = struct.pack("<q" if pa.types.is_int64(kind) else "<i", value)
    return int(xxhash.xxh64_intdigest(data, seed))
