"""A lake, read without Spark."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from math import nan
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

import ampel_spark
from ampel_spark.errors import LakeError
from ampel_spark.journal import utc_of
from ampel_spark.lake.log import add_files, create
from ampel_spark.lake.marker import mark
from ampel_spark.lake.parts import PartWriter
from ampel_spark.lake.reading import (
    check_lake,
    dataset,
    open_table,
    read,
    stream,
    table_info,
    table_names,
)
from ampel_spark.lake.runs import find_run, runs
from tests.commands.small_lake import RUNS, make_lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lake(tmp_path_factory.mktemp("reading"))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "_ampel_spark.json").write_text('{"format": 3}\n')
    return tmp_path


def test_a_lake_is_made_by_many_at_once(tmp_path: Path) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for i in range(50):
            root, together = tmp_path / str(i), threading.Barrier(4)

            def make(root: Path = root, together: threading.Barrier = together) -> Path:
                together.wait()
                made = mark(root)
                (root / "alerts").mkdir(exist_ok=True)  # what follows at once
                return made

            with ThreadPoolExecutor(4) as pool:
                made = [pool.submit(make) for _ in range(4)]
                assert {each.result() for each in made} == {root}
            assert sorted(p.name for p in root.iterdir()) == ["_ampel_spark.json", "alerts"]
    finally:
        sys.setswitchinterval(interval)


def test_a_lake_lists_its_tables(lake: Path) -> None:
    assert table_names(lake) == [
        "alerts", "candidates", "decisions", "runs", "state_channels", "states", "t2_summary",
    ]  # fmt: skip


def test_rows_and_columns_are_chosen_as_they_are_read(lake: Path) -> None:
    table = read(lake, "alerts", ["alert_id", "programid"], pc.field("programid") == 1)
    assert table.column_names == ["alert_id", "programid"]
    assert sorted(table["alert_id"].to_pylist()) == [11, 13]


def test_rows_are_found_by_columns_that_a_file_tells_nothing_of(empty: Path) -> None:
    """As in what the ingest writes: but for the table's property, deltalake would find none."""
    told = ["stock", "jd", "flux"]
    names = ["stock", "name", "jd", "flux"]
    kinds = ["long", "string", "double", "double"]
    fields = [
        {"name": n, "type": k, "nullable": True, "metadata": {}}
        for n, k in zip(names, kinds, strict=True)
    ]
    schema = json.dumps({"type": "struct", "fields": fields})
    properties = {
        "delta.enableInCommitTimestamps": "true",
        "delta.dataSkippingStatsColumns": ",".join(told),
    }
    create(empty / "alerts", schema, "", properties)
    parts = [
        pa.table({"stock": [1, 2], "name": ["a", "b"], "jd": [1.0, None], "flux": [1.0, 2.0]}),
        pa.table({"stock": [2, 3], "name": ["b", None], "jd": [3.0, 4.0], "flux": [nan, 1.0]}),
    ]
    for rows in parts:
        writer = PartWriter(empty / "alerts", rows.schema, told)
        writer.write(rows)
        add_files(empty / "alerts", [writer.close().as_file()], {})
    jd, name, stock = map(pc.field, ("jd", "name", "stock"))

    def count(rows: pc.Expression) -> int:
        return read(empty, "alerts", ["stock"], rows).num_rows

    assert count(name == "b") == 2
    assert count(name.is_null()) == 1
    assert (count(stock == 2), count(stock == 3), count(stock == 4)) == (2, 1, 0)
    assert (count(jd.is_null()), count(jd > 1), count(jd <= 1)) == (1, 2, 1)
    assert count(pc.field("flux") == 1) == 2
    # a file whose extremes forbid it is not opened
    wanted = [part.path for part in dataset(empty, "alerts").get_fragments(filter=stock == 3)]
    assert len(wanted) == 1
    assert read(empty, "alerts", ["name"], stock == 3)["name"].to_pylist() == [None]


def test_delta_tables_are_read_through_arrows_own_file_system() -> None:
    """That of deltalake may end a finished process with exit code 134."""
    package = Path(ampel_spark.__file__).parent
    for path in package.rglob("*.py"):
        for call in re.findall(r"\.to_pyarrow_(?:dataset|table)\(.*", path.read_text()):
            assert "filesystem=" in call, f"{path.relative_to(package)}: {call}"


def test_an_earlier_version_is_read_as_it_was(lake: Path) -> None:
    assert read(lake, "alerts", ["alert_id"], version=0)["alert_id"].to_pylist() == [11]
    assert read(lake, "alerts").num_rows == 4
    assert open_table(lake, "alerts", 0).version() == 0


def test_the_size_of_a_table_is_that_of_its_rows_and_files(tmp_path: Path) -> None:
    (tmp_path / "_ampel_spark.json").write_text('{"format": 3}\n')
    for part in (range(3), range(3, 10)):
        write_deltalake(
            str(tmp_path / "truth"),
            pa.table({"x": list(part)}),
            mode="append",
            description="what is so",
        )
    write_deltalake(str(tmp_path / "truth"), pa.table({"x": [1, 2]}), mode="overwrite")
    info = table_info(tmp_path, "truth")
    assert (info.name, info.description, info.rows, info.files, info.version) == (
        "truth",
        "what is so",
        2,
        1,
        2,
    )
    files = {p: p.stat().st_size for p in (tmp_path / "truth").rglob("*") if p.is_file()}
    assert info.bytes == min(
        size for p, size in files.items() if p.suffix == ".parquet" and read_x(p) == [1, 2]
    )
    assert info.bytes_on_disk == sum(files.values())
    assert abs(datetime.datetime.now(datetime.UTC) - info.last_commit) < datetime.timedelta(
        minutes=5
    )


def read_x(file: Path) -> list[int]:
    import pyarrow.parquet as pq

    values: list[int] = pq.read_table(file)["x"].to_pylist()
    return values


def test_runs_come_newest_first_with_their_json_read(lake: Path) -> None:
    found = runs(lake)
    assert [run.run_id for run in found] == [RUNS[1], RUNS[0]]
    assert found[0].inputs.to_json() == {"alerts": 1, "datapoints": 4}
    assert found[0].job_resolved["channel"][0] == {"name": "SN", "access": ["ZTF_PUB"]}
    assert found[0].started == datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)


def test_a_run_is_found_by_id_by_beginning_and_as_the_latest(lake: Path) -> None:
    assert find_run(lake).run_id == find_run(lake, "latest").run_id == RUNS[1]
    assert find_run(lake, RUNS[0]).run_id == find_run(lake, "small-20240101").run_id == RUNS[0]
    with pytest.raises(LakeError, match=f"'small' begins 2 runs: {RUNS[1]}, {RUNS[0]}"):
        find_run(lake, "small")
    with pytest.raises(LakeError, match=r"has no run 'small-20240103T000000-bbbb'; did you mean"):
        find_run(lake, "small-20240103T000000-bbbb")
    with pytest.raises(LakeError, match="has no run 'x'; its newest: small-20240102"):
        find_run(lake, "x")


def test_what_is_no_lake_is_told_with_the_cure(tmp_path: Path) -> None:
    cure = (
        "name another with --lake or AMPEL_SPARK_LAKE, or make one with `ampel-spark run JOB.yml`"
    )
    with pytest.raises(LakeError) as caught:
        check_lake(tmp_path / "nowhere")
    assert str(caught.value) == f"there is no lake at {tmp_path / 'nowhere'}: {cure}"
    with pytest.raises(LakeError) as caught:
        table_names(tmp_path)
    assert str(caught.value) == f"{tmp_path} is an empty folder: {cure}"
    (tmp_path / "file").touch()
    with pytest.raises(LakeError) as caught:
        runs(tmp_path)
    assert str(caught.value) == f"{tmp_path} is no lake (it has no _ampel_spark.json): {cure}"


def test_a_lake_of_another_format_is_refused(empty: Path) -> None:
    (empty / "_ampel_spark.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(LakeError, match="has format 99, this version reads format 3"):
        read(empty, "alerts")


def test_an_empty_lake_has_no_tables_and_no_runs(empty: Path) -> None:
    assert table_names(empty) == []
    assert runs(empty) == []
    with pytest.raises(LakeError, match=r"has no run yet: `ampel-spark run JOB\.yml --lake"):
        find_run(empty)


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("alerts", "has no table 'alerts': nothing was ingested yet (`ampel-spark ingest PATH`)"),
        ("runs", "has no table 'runs': it is empty (`ampel-spark run JOB.yml` fills it)"),
    ],
)
def test_a_table_that_is_not_there_is_told_with_the_cure(empty: Path, name: str, cure: str) -> None:
    with pytest.raises(LakeError) as caught:
        read(empty, name)
    assert str(caught.value) == f"lake {empty} {cure}"


def test_a_name_that_is_nearly_right_is_told(lake: Path) -> None:
    with pytest.raises(LakeError, match=r"has no table 'decision'; did you mean 'decisions'\?"):
        read(lake, "decision")
    with pytest.raises(
        LakeError, match="has no table 'truth': only lakes of simulated archives have it"
    ):
        read(lake, "truth")
    with pytest.raises(LakeError, match=r"has no column 'alertid'; did you mean 'alert_id'\?"):
        read(lake, "alerts", ["alertid"])
    for version in (9, -1, 1 << 70):
        with pytest.raises(LakeError, match=rf" no version {version}: it goes from 0 to 1$"):
            read(lake, "alerts", version=version)


def test_a_table_that_cannot_be_read_is_told(lake: Path, tmp_path: Path) -> None:
    bad = tmp_path / "lake"
    shutil.copytree(lake, bad)
    (bad / "alerts" / "_delta_log" / f"{0:020}.json").unlink()
    for version in (None, 0):
        with pytest.raises(LakeError, match=r"table 'alerts' of lake .* cannot be read: "):
            read(bad, "alerts", version=version)


def test_a_jd_is_told_as_utc() -> None:
    assert utc_of(2451545.0) == "2000-01-01 12:00:00"  # J2000
    assert utc_of(2458849.5 + 1.4 / 86400) == "2020-01-01 00:00:01"
    assert utc_of(None) is None
    assert utc_of(float("nan")) is None


def test_reading_imports_no_spark(lake: Path) -> None:
    code = (
        "import sys; from ampel_spark.lake.reading import *; from ampel_spark import journal\n"
        "from ampel_spark.lake.runs import runs\n"
        f"runs({str(lake)!r}); table_info({str(lake)!r}, 'alerts')\n"
        "assert not {'pyspark', 'delta', 'py4j'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_table_is_streamed_with_the_memory_of_one_row_group(empty: Path) -> None:
    rows = pa.table({"x": range(30_000), "word": [str(i % 7) for i in range(30_000)]})
    for _ in range(20):
        write_deltalake(str(empty / "big"), rows, mode="append")
    want = pc.field("x") >= 100
    begun, most, seen = pa.total_allocated_bytes(), 0, 0
    for batch in stream(empty, "big", ["x"], want):
        time.sleep(0.01)  # a scan would read ahead meanwhile
        seen += len(batch)
        most = max(most, pa.total_allocated_bytes() - begun)
    assert seen == 20 * 29_900
    assert most < 2 * rows.nbytes
    assert list(stream(empty, "big", ["x"], pc.field("x") < 0)) == []


def test_a_stream_has_the_columns_that_older_files_lack(empty: Path) -> None:
    write_deltalake(str(empty / "grown"), pa.table({"x": [1]}))
    write_deltalake(
        str(empty / "grown"), pa.table({"x": [2], "y": [3.0]}), mode="append", schema_mode="merge"
    )
    batches = list(stream(empty, "grown", ["y", "x"]))
    table = pa.Table.from_batches(batches)
    assert sorted(table.to_pylist(), key=lambda row: row["x"]) == [
        {"y": None, "x": 1},
        {"y": 3.0, "x": 2},
    ]
    assert table.equals(read(empty, "grown", ["y", "x"]))
