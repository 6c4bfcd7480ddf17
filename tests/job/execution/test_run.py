"""The main job from packets to candidates, and again, and as of a night."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from ampel_spark import cli
from ampel_spark.archive.committing.ingest import ingest
from ampel_spark.errors import ArchiveError
from ampel_spark.files import files_in
from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.execution.inputs import as_of
from ampel_spark.job.execution.run import _show, run_job
from ampel_spark.lake.reading import read
from ampel_spark.lake.tables import INCOMPARABLE
from ampel_spark.t1.states import light_curves, visible_points
from tests.conftest import PROJECT, QUICK

pytestmark = [pytest.mark.spark, pytest.mark.slow]

QUICKSTART = PROJECT / "jobs" / "quickstart.yml"


def table(lake: Path, name: str) -> Any:
    return DeltaTable(str(lake / name)).to_pandas()


def last_run(lake: Path) -> dict[str, Any]:
    run = table(lake, "runs").sort_values("started").iloc[-1].to_dict()
    return run | {
        k: json.loads(run[k]) for k in ("counts", "inputs", "outputs", "traces", "software")
    }


def truth_of(lake: Path) -> Any:
    (path,) = lake.parent.glob("*/truth.parquet")
    return pq.read_table(path).to_pandas().set_index("name")


def test_a_run_leaves_its_record(quick_lake: Path) -> None:
    run = table(quick_lake, "runs").sort_values("started").iloc[0]
    counts = json.loads(run.counts)
    assert (run.status, run.job, run.calibration) == ("good", "quickstart", "raw")
    archive = counts["archive"]
    assert archive["packets"] == archive["stored"] == 900
    for t0 in counts["t0"].values():
        assert t0["alerts"] - sum(lost for _, lost in t0["cuts"]) == t0["accepted"]
    decisions = table(quick_lake, "decisions")
    decisions = decisions[decisions.run_id == run.run_id]
    assert {c: int(n) for c, n in decisions[decisions.accepted].channel.value_counts().items()} == {
        c: t["accepted"] for c, t in counts["t0"].items()
    }
    # the truth stands in a table of its own, as the simulator made it, and no tier read it
    made = truth_of(quick_lake)
    truth = table(quick_lake, "truth").set_index("name")
    assert truth.z.to_dict() == pytest.approx(made.z.to_dict(), nan_ok=True)
    assert "truth" not in json.loads(run.inputs)
    software = json.loads(run.software)
    assert software["pyspark"] == "4.1.1"
    assert software["java"].split(".")[0] in ("17", "21")


def test_candidates_are_the_supernovae_that_were_put_in(quick_lake: Path) -> None:
    truth = truth_of(quick_lake)
    found = table(quick_lake, "candidates")
    names = set(found[found.selection == "sn_ia"].name)
    assert len(names) >= 3
    kinds = truth.loc[sorted(names)].kind
    assert (kinds == "snia").mean() >= 0.75
    # what is no supernova at all is never taken for one
    assert not set(kinds) & {"asteroid", "bogus", "variable"}


def test_fits_agree_with_what_was_injected(quick_lake: Path) -> None:
    truth = truth_of(quick_lake)
    fits = table(quick_lake, "t2_salt_fit")
    fits = fits[(fits.status == 0) & ~fits.at_bound.astype(bool) & (fits.n_points >= 10)]
    fits = fits[fits.name.map(truth.kind) == "snia"]
    assert len(fits) >= 3
    for name, limit in (("t0", 1.5), ("x1", 1.5), ("c", 0.15)):
        assert np.median(np.abs(fits[name] - fits.name.map(truth[name]))) < limit, name


# A minute; tests/t2/test_salt_fit.py holds both engines together on light curves of its own.
@pytest.mark.long
def test_both_engines_fit_the_quickstart_s_light_curves_alike(
    spark: SparkSession, quick_lake: Path, tmp_path: Path
) -> None:
    shutil.copytree(quick_lake, tmp_path / "lake")
    lines: list[str] = []
    job = load_job(QUICKSTART, (*QUICK, "t2.3.config.engine=sncosmo", "report=false"))
    assert run_job(job, tmp_path / "lake", out=lines.append).code == 0, lines
    fits = table(tmp_path / "lake", "t2_salt_fit").set_index("state_id")
    slow = fits[fits.run_id == last_run(tmp_path / "lake")["run_id"]]
    fast = fits[~fits.run_id.isin(slow.run_id)].loc[slow.index]
    assert len(slow) >= 10
    assert (fast.status == slow.status).mean() > 0.9
    both = (fast.status == 0) & (slow.status == 0)
    fast, slow = fast[both], slow[both]
    assert set(fast.engine) == {"batch"}
    assert set(slow.engine) == {"sncosmo"}
    assert (fast.n_points == slow.n_points).mean() > 0.8
    # Of what was fitted to the same points the minimum is the same, or ours is lower. Supernovae of
    # other types are at a bound: there the model's scatter is frozen at other parameters.
    same = (fast.n_points == slow.n_points) & ~fast.at_bound.astype(bool)
    assert (fast.chisq - slow.chisq)[same].max() < 0.1
    equal = same & ((fast.chisq - slow.chisq).abs() < 0.01) & ~fast.at_edge.astype(bool)
    assert equal.sum() >= 3
    for name in ("t0", "x1", "c"):
        off = (fast[name] - slow[name]).abs() / slow[f"{name}_err"]
        assert off[equal].median() < 0.05


def test_the_report_stands_by_itself(quick_lake: Path) -> None:
    page = (quick_lake / "reports" / "latest.html").read_text()
    run_id = table(quick_lake, "runs").sort_values("started").iloc[-1].run_id
    assert run_id in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Fitted against injected" in page


def test_a_second_run_computes_nothing_and_finds_the_same(
    spark: SparkSession, quick_lake: Path
) -> None:
    before = table(quick_lake, "candidates")
    lines: list[str] = []
    assert run_job(load_job(QUICKSTART, QUICK), quick_lake, out=lines.append).code == 0
    run = last_run(quick_lake)
    assert run["counts"]["archive"]["packets"] == 0
    assert run["counts"]["t1"]["new"] == 0
    assert [t["computed"] for t in run["counts"]["t2"].values()] == [0, 0, 0, 0]
    after = table(quick_lake, "candidates")
    mine = (
        after[after.run_id == run["run_id"]]
        .drop(columns="run_id")
        .sort_values(["selection", "rank"])
    )
    first = (
        before[before.run_id == before.run_id.iloc[0]]
        .drop(columns="run_id")
        .sort_values(["selection", "rank"])
    )
    assert mine.reset_index(drop=True).equals(first.reset_index(drop=True))


def test_a_states_light_curve_comes_back_from_its_recorded_version(
    spark: SparkSession, quick_lake: Path
) -> None:
    run_id = table(quick_lake, "runs").sort_values("started").iloc[0].run_id
    wanted = read(quick_lake, "state_channels", filters=pc.field("run_id") == run_id)
    (row, *_) = wanted.to_pylist()
    alerts, datapoints = (
        read(quick_lake, name, version=row[f"{name}_version"]) for name in ("alerts", "datapoints")
    )
    names = read(quick_lake, "states", ["state_id", "survey", "name"])
    asked = wanted.select(["state_id", "stock"]).join(names, "state_id")
    n = len(asked)
    ids = asked["state_id"].combine_chunks().dictionary_encode().indices
    asked = asked.append_column("request", ids.cast(pa.int64()))
    asked = asked.append_column("until_jd", pa.array([9e9] * n))
    asked = asked.append_column("until_alert_id", pa.array([(1 << 63) - 1] * n))
    points = visible_points(alerts, datapoints, frozenset(int(p) for p in row["access"].split(",")))
    made = light_curves(asked, points, row["points"].split(","))["state_id"].to_pylist()
    assert {*made} == {*wanted["state_id"].to_pylist()}


def test_as_of_a_night_equals_a_lake_that_never_held_more(
    spark: SparkSession, quick_lake: Path, tmp_path: Path
) -> None:
    (archive,) = quick_lake.parent.glob("simulated-*")
    files = sorted(archive.glob("*.tar.gz"))
    half = files[: len(files) // 2]
    night = half[-1].name[11:19]
    small = load_job(QUICKSTART, (*QUICK, "t2=[]", "t3=[]", "report=false"))
    until = as_of(night, small.survey)
    assert run_job(small, quick_lake, inputs=until, out=lambda line: None).code == 0
    bounded = last_run(quick_lake)
    lake = tmp_path / "lake"
    ingest(spark, lake, half, out=lambda line: None)
    small = load_job(
        QUICKSTART,
        (
            *small.settings,
            "archive=null",
            "catalog.stars={file: " + str(archive / "stars.parquet") + "}",
            "catalog.hosts={file: " + str(archive / "hosts.parquet") + ", columns: [z, z_err]}",
        ),
    )
    assert run_job(small, lake, out=lambda line: None).code == 0

    def states(path: Path, run: dict[str, Any]) -> set[tuple[str, str]]:
        rows = table(path, "state_channels")
        rows = rows[rows.run_id == run["run_id"]]
        return set(zip(rows.channel, rows.state_id, strict=True))

    assert states(quick_lake, bounded) == states(lake, last_run(lake))
    assert len(states(quick_lake, bounded)) > 3


def test_any_delta_reader_finds_rows_by_any_column(quick_lake: Path) -> None:
    """A commit tells extremes of some columns; of no other may a reader take them for known."""
    looked = 0
    for path in sorted(log.parent for log in quick_lake.glob("*/_delta_log")):
        table = DeltaTable(path).to_pyarrow_dataset(filesystem=files_in(path))
        rows = table.to_table()
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
                continue
            here = pc.field(name).is_valid()
            expected = len(rows) - column.null_count
            assert table.count_rows(filter=here) == expected, (path.name, name)
            if expected:
                value = column.drop_null()[expected // 2]
                found = table.count_rows(filter=pc.field(name) == value)
                assert found == pc.sum(pc.equal(column, value)).as_py(), (path.name, name)
                looked += 1
    assert looked > 200


def test_whole_numbers_reach_exports_and_report_though_some_are_absent(
    spark: SparkSession, quick_lake: Path, tmp_path: Path
) -> None:
    truth = truth_of(quick_lake).iloc[::2]
    numbers = np.arange(len(truth)) + 5853498713190525697  # a float would round them
    stars = tmp_path / "numbered.parquet"
    pq.write_table(pa.table({"ra": truth.ra, "dec": truth.dec, "number": numbers}), stars)
    job = load_job(
        QUICKSTART,
        (
            *QUICK,
            "catalog.numbered={file: " + str(stars) + ", columns: [number]}",
            "t2=[{unit: catalog_match, config: {catalog: numbered, radius: 2, append: [number]}}]",
            "t3=[{name: all, channel: SN, columns: {number: catalog_match.number},"
            " export: [csv, parquet]}]",
        ),
    )
    lines: list[str] = []
    outcome = run_job(job, quick_lake, out=lines.append)
    folder = quick_lake / "exports" / outcome.run_id
    found = pq.read_table(folder / "all.parquet")["number"].to_pylist()
    assert {n for n in found if n is not None} <= set(numbers.tolist())
    assert 0 < found.count(None) < len(found)
    rows = (folder / "all.csv").read_text().splitlines()[1:]
    assert [row.split(",")[-1] for row in rows] == ["" if n is None else str(n) for n in found]
    known = next(str(n) for n in found if n is not None)
    assert known in (quick_lake / "reports" / f"{outcome.run_id}.html").read_text()
    assert known in "\n".join(lines)


def test_what_a_unit_that_fails_says_most_often_is_told(
    spark: SparkSession, quick_lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.py").write_text(
        "from ampel_spark.t2 import Unit\n\n\nclass Odd(Unit):\n"
        "    def process(self, light_curve):\n"
        "        if light_curve.stock % 5:\n            raise ValueError('not for me')\n"
        "        raise KeyError(light_curve.stock)\n"
    )
    unit = "t2=[{unit: '" + str(tmp_path / "odd.py") + ":Odd', name: odd}]"
    job = load_job(QUICKSTART, (*QUICK, unit, "t3=[]", "report=false"))
    lines: list[str] = []
    outcome = run_job(job, quick_lake, out=lines.append)
    tier = outcome.counts.t2["odd"]
    text, n = tier["messages"]["-4"]
    assert text == "ValueError: not for me"
    assert 0.5 * tier["wanted"] < n <= tier["wanted"]
    told = f'odd: {tier["wanted"]} with status -4, most often "{text}" ({n})'
    assert f"T2: {told}" in lines
    assert cli.main(["show", outcome.run_id, "--lake", str(quick_lake)]) == 0
    assert f"\n{told}\n" in capsys.readouterr().out


def test_a_run_that_fails_says_so_in_its_record(spark: SparkSession, tmp_path: Path) -> None:
    job = load_job(QUICKSTART, ("archive=null", "catalog={}", "t0.0.gaia=null", "t2=[]", "t3=[]"))
    with pytest.raises(ArchiveError, match="holds no alerts yet; ingest an archive first"):
        run_job(job, tmp_path / "lake", out=lambda line: None)
    run = last_run(tmp_path / "lake")
    assert run["status"] == "failed"
    assert "holds no alerts yet" in run["message"]


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[str]:
    """Spark's own cluster on this machine: a master and two workers, of a core each."""
    import pyspark

    port, home = _free_port(), Path(pyspark.__file__).parent
    environment = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(tmp_path / "work"),
        "SPARK_DAEMON_MEMORY": "256m",
    }
    url, deploy = f"spark://127.0.0.1:{port}", "org.apache.spark.deploy"
    own = ["--host", "127.0.0.1", "--webui-port", "0"]
    master = [f"{deploy}.master.Master", *own, "--port", str(port)]
    worker = [f"{deploy}.worker.Worker", *own, "-c", "1", "-m", "2g", url]
    with (tmp_path / "cluster.log").open("w") as log:
        started = [
            subprocess.Popen(
                [str(home / "bin" / "spark-class"), *command],
                env=environment, stdout=log, stderr=log,
            )
            for command in (master, worker, worker)
        ]  # fmt: skip
        yield url
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.long
@pytest.mark.parametrize("cluster", ["local-cluster[2,1,1536]", "standalone"])
def test_two_executors_make_the_tables_that_one_process_makes(
    cluster: str, quick_lake: Path, tmp_path: Path, quick_jvm: None, request: pytest.FixtureRequest
) -> None:
    if cluster == "standalone":
        cluster = request.getfixturevalue("standalone")
    command = [str(PROJECT / "spark-submit.sh"), str(QUICKSTART), "--lake", str(tmp_path / "lake")]
    for setting in QUICK:
        command += ["--set", setting]
    environment = os.environ | {"MASTER": cluster}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    first = table(quick_lake, "runs").sort_values("started").iloc[0].run_id
    for name in ("alerts", "datapoints", "decisions", "states", "state_channels",
                 "t2_light_curve_summary", "t2_milky_way_dust", "t2_host", "t2_salt_fit",
                 "candidates"):  # fmt: skip
        one, two = table(quick_lake, name), table(tmp_path / "lake", name)
        one = one[one.run_id == first]
        columns = [c for c in two.columns if c not in INCOMPARABLE and not c.endswith("_version")]
        keyed = [
            frame[columns].map(str).sort_values(columns).reset_index(drop=True)
            for frame in (one, two)
        ]
        assert keyed[0].equals(keyed[1]), name


def test_times_of_candidates_are_told_to_minutes() -> None:
    said: list[str] = []
    _show("sn_ia", pa.table({"name": ["a"], "t0": [2460409.01234], "x1": [0.123456]}), said.append)
    assert said[1].splitlines()[1].split() == ["a", "2460409.012", "0.12346"]
