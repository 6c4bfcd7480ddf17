"""Lakes of older formats: refused with the cure, and brought to this one, whatever kills it."""

from __future__ import annotations

import fcntl
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xxhash

from ampel_spark import cli
from ampel_spark.errors import LakeError
from ampel_spark.interface.lake_view import open_lake
from ampel_spark.lake.decisions import decisions_of
from ampel_spark.lake.marker import FORMAT, MARKER, mark, read_marker
from ampel_spark.lake.reading import check_lake, read, table_names
from ampel_spark.lake.runs import find_run
from ampel_spark.lake.upgrade import STEPS, decision_sets, input_hashes, steps, upgrade
from ampel_spark.lake.upgrade.input_hashes import old_hash
from tests.old_lakes import RUNS, USED, unpack_format_1


def quiet(_: str) -> None:
    pass


@pytest.fixture
def old_lake(tmp_path: Path) -> Path:
    return unpack_format_1(tmp_path)


def content(lake: Path) -> dict[str, list[Any]]:
    """Return all rows of all tables, in an order of their own."""
    found = {}
    for name in table_names(lake):
        rows = read(lake, name).to_pylist()
        found[name] = sorted(rows, key=lambda row: json.dumps(row, sort_keys=True, default=str))
    return found


def used(lake: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return which results the runs of a lake used, as ``format_1.json`` has it."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for run in open_lake(lake).runs():
        found[run.id] = {}
        for unit in run.units:
            rows = run.results(unit, ["state_id", "duration_ms"]).to_pylist()
            found[run.id][unit] = {row["state_id"]: row["duration_ms"] for row in rows}
    return found


@pytest.mark.parametrize(
    "command",
    [
        ["runs"],
        ["show", "latest"],
        ["tables"],
        ["tables", "states"],
        ["object", "ZTF24aaaicwk"],
        ["explain", "1", "--channel", "SN"],
        ["diff", RUNS[0], RUNS[1]],
        ["maintain"],
        ["maintain", "--compact"],
        ["search", "alerts", "--cone", "1", "2", "3"],
        ["catalog", "list"],
        ["catalog", "show", "hosts"],
        ["reproduce", "latest"],
        ["rerun", "latest"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_every_command_refuses_it_and_names_the_cure(
    command: list[str], old_lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--lake", str(old_lake)]) in (1, 2)
    said = capsys.readouterr().err
    assert f"lake {old_lake} has format 1, this version reads format {FORMAT}" in said
    assert f"`ampel-spark maintain --upgrade --lake {old_lake}` brings it over" in said
    assert read_marker(old_lake)["format"] == 1


def test_who_opens_it_to_write_is_refused(old_lake: Path) -> None:
    with pytest.raises(LakeError, match=r"has format 1, .* `ampel-spark maintain --upgrade"):
        mark(old_lake)
    with pytest.raises(LakeError, match=r"has format 1, .* `ampel-spark maintain --upgrade"):
        open_lake(old_lake)


def test_the_command_brings_it_over_and_says_so_the_second_time(
    old_lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["maintain", "--upgrade", "--lake", str(old_lake)]) == 0
    assert "new runs compute their own" in capsys.readouterr().out
    after = content(old_lake)
    assert cli.main(["maintain", "--upgrade", "--lake", str(old_lake)]) == 0
    assert f"has format {FORMAT} already" in capsys.readouterr().out
    assert content(old_lake) == after
    assert cli.main(["runs", "--lake", str(old_lake)]) == 0


def test_every_run_has_the_results_that_it_used_before(old_lake: Path) -> None:
    upgrade(old_lake, quiet)
    assert used(old_lake) == USED


def test_rows_change_in_their_input_hash_alone(old_lake: Path) -> None:
    before = {
        name: pa.table(input_hashes._dataset(old_lake, name, version).to_table())
        for name, version in steps._versions(old_lake).items()
    }
    upgrade(old_lake, quiet)
    for name, old in before.items():
        rows = read(old_lake, name)
        if name in ("decisions", "runs"):
            # these have columns more, and decisions are in another order
            order = [
                (n, "ascending") for n in old.column_names if n in ("run_id", "channel", "alert_id")
            ]
            assert rows.select(old.column_names).sort_by(order).equals(old.sort_by(order)), name
            continue
        if name != "t2_salt_fit":
            # of results, the subject is a column more
            assert rows.select(old.column_names).equals(old), name
            assert {*rows.column_names} - {*old.column_names} <= {"subject_id"}
            continue
        apart = [n for n in old.column_names if n != "input_hash"]
        plain = {json.dumps(row, default=str) for row in old.select(apart).to_pylist()}
        assert {json.dumps(row, default=str) for row in rows.select(apart).to_pylist()} == plain
        # two fits are of hosts that two catalogue units found alike: they have two keys now
        assert (len(old), len(rows)) == (19, 21)
        keys = rows.select(["state_id", "trace_id", "input_hash"]).to_pylist()
        assert len({tuple(key.values()) for key in keys}) == len(rows)


def test_every_run_finds_the_decisions_that_it_made(old_lake: Path) -> None:
    version = steps._versions(old_lake)["decisions"]
    rows = input_hashes._dataset(old_lake, "decisions", version).to_table().to_pylist()
    upgrade(old_lake, quiet)
    for run_id in RUNS:
        run = find_run(old_lake, run_id)
        for channel in run.channels:
            mine = [r for r in rows if (r["run_id"], r["channel"]) == (run_id, channel)]
            found = decisions_of(old_lake, run, [channel]).to_pylist()
            assert len(found) == len(mine) == run.counts.t0[channel]["alerts"] > 0
            assert {(r["alert_id"], r["accepted"], r["cut"]) for r in found} == {
                (r["alert_id"], r["accepted"], r["cut"]) for r in mine
            }
        sets = read(old_lake, "decision_sets").to_pylist()
        mine = [row for row in sets if row["run_id"] == run_id]
        assert {row["channel"]: row["accepted"] for row in mine} == {
            channel: tier["accepted"] for channel, tier in run.counts.t0.items()
        }
        assert {row["alerts_version"] for row in mine} == {run.inputs.tables["alerts"]}


def test_versions_that_runs_pinned_stay_readable(old_lake: Path) -> None:
    pins = input_hashes._dataset(old_lake, "pins", steps._versions(old_lake)["pins"])
    pinned = {(pin["table"], pin["version"]) for pin in pins.to_table().to_pylist()}
    upgrade(old_lake, quiet)
    assert pinned
    for name, version in pinned:
        assert len(read(old_lake, name, version=version)) == len(read(old_lake, name))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, list[Any]]]:
    """The marker and the rows of a lake whose upgrade nobody killed."""
    lake = unpack_format_1(tmp_path_factory.mktemp("whole"))
    upgrade(lake, quiet)
    return (lake / MARKER).read_text(), content(lake)


class Killed(BaseException):
    """The driver is gone."""


# to be killed after a step is to be killed before the next one
@pytest.mark.parametrize(("moment", "after"), [*((n, False) for n in range(12)), (11, True)])
def test_killed_at_any_step_it_ends_as_if_it_had_not_been(
    moment: int,
    after: bool,
    old_lake: Path,
    whole: tuple[str, dict[str, list[Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 0

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count - 1 == moment and not after:
                raise Killed
            found = function(*args, **kwargs)
            if count - 1 == moment:
                raise Killed
            return found

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(steps, "write_marker", killing(steps.write_marker))
        patch.setattr(input_hashes, "replace_files", killing(input_hashes.replace_files))
        patch.setattr(decision_sets, "replace_files", killing(decision_sets.replace_files))
        patch.setattr(decision_sets, "add_files", killing(decision_sets.add_files))
        patch.setattr(input_hashes.PartWriter, "close", killing(input_hashes.PartWriter.close))
        with pytest.raises(Killed):
            upgrade(old_lake, quiet)
    marker = read_marker(old_lake)
    if marker["format"] not in (1, FORMAT):
        with pytest.raises(LakeError, match=r"(half-way from|has) format .*maintain --upgrade"):
            check_lake(old_lake)
    upgrade(old_lake, quiet)
    assert ((old_lake / MARKER).read_text(), content(old_lake)) == whole


def test_a_table_that_was_written_to_half_way_is_named(
    old_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ampel_spark.lake.log import add_files

    def dies(*args: Any, **kwargs: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(input_hashes, "replace_files", dies)
        with pytest.raises(Killed):
            upgrade(old_lake, quiet)
    add_files(old_lake / "t2_salt_fit", [], {"run_id": "somebody"})
    with pytest.raises(LakeError, match=r"table t2_salt_fit .* was written to since its upgrade"):
        upgrade(old_lake, quiet)


def test_it_waits_for_no_run_but_says_that_one_is_at_work(old_lake: Path) -> None:
    (old_lake / "_staging").mkdir()
    with (old_lake / "_staging" / "some-run.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(LakeError, match=r"is in use \(_staging/some-run.lock is held\)"):
            upgrade(old_lake, quiet)
    assert upgrade(old_lake, quiet)


@pytest.mark.parametrize("marker", [{"format": 99}, {"format": "3 to 4", "upgrading": FORMAT}, {}])
def test_a_format_that_it_does_not_know_is_refused(marker: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(json.dumps(marker))
    with pytest.raises(LakeError, match="this version upgrades formats 1 to"):
        upgrade(tmp_path, quiet)
    with pytest.raises(LakeError, match="format"):
        check_lake(tmp_path)
    (tmp_path / MARKER).write_text("no JSON")
    with pytest.raises(LakeError, match="cannot be read"):
        check_lake(tmp_path)


def test_every_format_up_to_this_one_has_its_steps() -> None:
    assert sorted(STEPS) == list(range(2, FORMAT + 1))


def test_the_old_hash_is_that_of_sparks_manual() -> None:
    # SELECT xxhash64('Spark', array(123), 2)
    seed = 42
    for value, kind in (("Spark", pa.string()), (123, pa.int32()), (2, pa.int32())):
        seed = input_hashes._hashed(value, kind, seed)
    assert struct.unpack("<q", struct.pack("<Q", seed))[0] == 5602566077635097486


def test_the_old_hashes_are_those_that_the_lake_holds(old_lake: Path) -> None:
    versions = steps._versions(old_lake)
    rows = {
        name: input_hashes._dataset(old_lake, f"t2_{name}", versions[f"t2_{name}"]).to_table()
        for name in ("salt_fit", "host", "milky_way_dust")
    }
    fits = rows["salt_fit"].filter(pc.field("run_id") == RUNS[0]).to_pylist()
    assert len(fits) == 7
    for fit in fits:
        ties, types = {}, {}
        for name in ("host", "milky_way_dust"):
            mine = (pc.field("state_id") == fit["state_id"]) & (pc.field("run_id") == RUNS[0])
            (row,) = rows[name].filter(mine).to_pylist()
            types[name] = {f.name: f.type for f in rows[name].schema}
            ties[name] = {
                n: v for n, v in row.items() if n == "status" or n not in input_hashes.RESULT_HEAD
            }
        assert f"{old_hash(ties, types):X}" == fit["input_hash"]


def test_null_changes_no_old_hash_and_zero_has_no_sign() -> None:
    types = {"x": pa.float64(), "y": pa.list_(pa.string()), "status": pa.int32()}
    known = {"status": 1}
    absent = known | {"x": None, "y": None}
    assert old_hash({"a": absent}, {"a": types}) == old_hash({"a": known, "b": {}}, {"a": types})
    zeros = [old_hash({"a": {"x": zero}}, {"a": types}) for zero in (0.0, -0.0)]
    assert zeros[0] == zeros[1] != xxhash.xxh64_intdigest(b"", 42)
    lists = [old_hash({"a": {"y": y}}, {"a": types}) for y in (["b"], ["b", None], [None, "b"], [])]
    assert len({*lists}) == 4
