"""explain and object."""
# ruff: noqa: E501  (lines are compared as they are printed)

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampel_spark.commands.objects import _numbers, _star_files, _stars
from ampel_spark.errors import ConfigError
from ampel_spark.interface.run_view import access_of
from ampel_spark.job.configuration.load import simulated_dir
from ampel_spark.job.configuration.model import SimulationEntry
from ampel_spark.lake.runs import Run, RunInputs, utc_now
from ampel_spark.t0.explain import explain
from ampel_spark.t0.gaia import STAR_COLUMNS, StarCatalog
from ampel_spark.t0.selection import ChannelFilter
from tests.commands.conftest import Command
from tests.commands.small_lake import ALERTS, RUNS, change_run, make_lake
from tests.t0.test_explain import DECENT


def test_an_alert_is_explained_cut_by_cut(small_lake: Path, command: Command) -> None:
    code, out, err = command(
        "explain", 11, "--channel", "SN", "--run", "latest", "--lake", small_lake
    )
    assert (code, err) == (0, "")
    head, table = out.split("\n\n")
    assert head.splitlines() == [
        "alert     11 of ZTF18abxhyqv",
        "time      2019-11-23 00:00:00 UTC, JD 2458810.50000",
        f"run       {RUNS[1]}",
        "channel   SN",
        "filter    SimpleDecentFilter",
        "history   packet: 1 detections, JD 2458810.5 to 2458810.5",
        "decision  rejected by min_ndet",
    ]
    lines = table.splitlines()
    assert lines[0].split() == [
        "position",
        "cut",
        "passed",
        "value",
        "threshold",
        "rejects",
        "where",
        "detail",
    ]
    assert lines[1].split() == ["1", "min_ndet", "no", "1", "2", "n_detections", "<", "2"]
    assert lines[7].split() == ["7", "max_fwhm", "no", "9", "5", "fwhm", ">", "5.0"]
    assert len(lines) == 1 + 15


def test_an_explanation_as_json_is_one_object_a_cut(small_lake: Path, command: Command) -> None:
    code, out, _ = command(
        "explain", 13, "--channel", "Team", "--lake", small_lake, "--format", "json"
    )
    both = json.loads(out)
    assert code == 0
    assert [row["run_id"] for row in both] == [RUNS[0]] * 3 + [RUNS[1]] * 3
    rows = both[3:]
    assert [row["cut"] for row in rows] == [
        "rb >= 0.5",
        "abs(gal_lat) > 14",
        "drb >= 0.9 or missing",
    ]
    assert {tuple(row) for row in rows} == {
        ("alert_id", "name", "stock", "jd", "channel", "run_id", "filter", "decision", "first_cut", "position", "cut",
         "passed", "value", "threshold", "rule", "detail")
    }  # fmt: skip
    assert rows[0]["decision"]["bypassed"] is True
    assert rows[0]["run_id"] == RUNS[1]
    assert [row["passed"] for row in rows] == [True, True, True]
    assert rows[2]["value"] is None


def test_runs_that_judged_an_alert_alike_explain_it_once(
    small_lake: Path, command: Command
) -> None:
    out = command("explain", 13, "--channel", "SN", "--lake", small_lake)[1]
    assert f"runs      {RUNS[0]}, {RUNS[1]}\n" in out
    assert out.count("min_ndet") == 1


def test_runs_that_judged_an_alert_otherwise_are_told_apart(
    tmp_path: Path, command: Command
) -> None:
    lake = make_lake(tmp_path)
    change_run(lake, RUNS[1], lambda job: job["t0"][0]["config"].update(min_ndet=7))
    out = command("explain", 13, "--channel", "SN", "--lake", lake)[1]
    first, second = out.split(f"run       {RUNS[1]}\n")
    assert f"run       {RUNS[0]}\n" in first
    assert [text.partition("min_ndet")[2].split()[:3] for text in (first, second)] == [
        ["yes", "2", "2"],
        ["no", "2", "7"],
    ]


def test_a_channel_that_only_some_runs_have_is_explained_in_these(
    tmp_path: Path, command: Command
) -> None:
    lake = make_lake(tmp_path)
    change_run(lake, RUNS[1], lambda job: job["channel"][0].update(name="Renamed"))
    rows = json.loads(
        command("explain", 13, "--channel", "SN", "--lake", lake, "--format", "json")[1]
    )
    assert {row["run_id"] for row in rows} == {RUNS[0]}


def test_an_earlier_run_explains_what_it_did(small_lake: Path, command: Command) -> None:
    code, out, _ = command(
        "explain", 13, "--channel", "SN", "--run", RUNS[0][:14], "--lake", small_lake
    )
    assert code == 0
    assert f"run       {RUNS[0]}" in out
    assert "decision  accepted" in out


def test_an_alert_that_may_not_be_seen_is_as_one_that_is_not_there(
    small_lake: Path, command: Command
) -> None:
    said = [
        command("explain", alert, "--channel", "SN", "--lake", small_lake) for alert in (12, 99)
    ]
    assert [code for code, _, _ in said] == [2, 2]
    assert said[0][2].replace("12", "99", 1) == said[1][2]
    assert said[1][2] == (
        f"ampel-spark: no alert 99 that channel 'SN' may see in lake {small_lake}, as any of 2 runs saw it\n"
    )
    assert command("explain", 12, "--channel", "Team", "--lake", small_lake)[0] == 0


def test_the_history_explained_is_the_channels_own(small_lake: Path, command: Command) -> None:
    # 13 shows a point of the partnership, that SN does not see
    assert (
        "packet: 2 detections" in command("explain", 13, "--channel", "SN", "--lake", small_lake)[1]
    )
    assert (
        "archive: 3 detections"
        in command("explain", 13, "--channel", "Team", "--lake", small_lake)[1]
    )


def test_a_channel_that_the_run_lacks_is_told_with_the_nearest(
    small_lake: Path, command: Command
) -> None:
    code, _, err = command("explain", 11, "--channel", "Teem", "--lake", small_lake)
    assert (code, err) == (
        2,
        f"ampel-spark: run {RUNS[1]} has no channel 'Teem'; did you mean 'Team'?\n",
    )


def test_an_object_is_told_in_order_of_time(small_lake: Path, command: Command) -> None:
    code, out, _ = command(
        "object", "ZTF18abxhyqv", "--channel", "SN", "--run", "latest", "--lake", small_lake
    )
    assert code == 0
    assert out.splitlines() == [
        "utc                  kind       channel  id                                status    detail",
        "2019-11-23 00:00:00  alert      -        11                                          g 18.5 ± 0.05 mag, rb 0.9; 1 detection, 1 upper limit",
        "2019-11-23 00:00:00  decision   SN       11                                rejected  cut min_ndet: 1 against 2",
        "2019-11-28 00:00:00  alert      -        13                                          g 18 ± 0.05 mag, rb 0.9; 2 detections, 1 upper limit",
        "2019-11-28 00:00:00  decision   SN       13                                accepted",
        "2019-11-28 00:00:00  state      SN       00112233445566778899aabbccddeeff  latest    2 detections, 1 upper limit, calibration raw, datapoints version 4",
        "2019-11-28 00:00:00  result     -        summary                           0         n_detections 2, peak_mag 18",
        "2019-11-28 00:00:00  candidate  SN       best                              rank 1    summary_peak_mag 18",
    ]


def test_the_whole_journal_tells_what_several_runs_have_alike_once(
    small_lake: Path, command: Command
) -> None:
    code, out, _ = command("object", "ZTF18abxhyqv", "--channel", "SN", "--lake", small_lake)
    assert code == 0
    legend, journal = out.split("\n\n")
    assert [line.split()[:2] for line in legend.splitlines()[1:]] == [
        ["1", RUNS[0]],
        ["2", RUNS[1]],
    ]
    told = [(line.split()[2], line.split()[5:7]) for line in journal.splitlines()[1:]]
    assert [kind for kind, _ in told] == [
        "alert", "decision", "alert", "decision", "state", "result", "candidate",
    ]  # fmt: skip
    assert "rejected  1-2   cut min_ndet: 1 against 2" in journal
    assert "latest    1-2   2 detections, 1 upper limit" in journal
    # only the second run has candidates
    assert "rank 1    2     summary_peak_mag 18" in journal


def test_runs_are_told_in_few_words() -> None:
    ids = [f"r{i}" for i in range(9)]
    assert _numbers(["r0", "r1", "r2", "r4", "r8", "r7"], ids) == "1-3, 5, 8-9"
    assert _numbers([], ids) == ""


def test_without_a_channel_all_channels_of_the_runs_are_shown(
    small_lake: Path, command: Command
) -> None:
    rows = json.loads(
        command("object", "ZTF18abxhyqv", "--lake", small_lake, "--format", "json")[1]
    )
    assert {row["channel"] for row in rows} == {None, "SN", "Team"}
    assert {tuple(row["runs"]) for row in rows} == {(), RUNS, RUNS[1:]}
    assert {tuple(row) for row in rows} == {
        ("jd", "utc", "kind", "channel", "id", "status", "detail", "values", "runs")
    }


def test_an_object_that_is_not_there_is_told(small_lake: Path, command: Command) -> None:
    code, _, err = command("object", "ZTF20abyfpze", "--channel", "SN", "--lake", small_lake)
    assert code == 2
    assert err.startswith(
        f"ampel-spark: no object 'ZTF20abyfpze' in lake {small_lake} of which channel SN may see"
    )


def run_of(job: dict[str, Any]) -> Run:
    return Run("r", "job", "", "", "", job, "raw", utc_now())


def test_data_rights_are_those_that_the_job_gave() -> None:
    run = run_of({"survey": "ztf", "channel": [
        {"name": "A", "access": ["ZTF_PUB"]}, {"name": "B", "access": ["ZTF_PUB", "ZTF_CALTECH"]},
    ]})  # fmt: skip
    assert access_of(run) == {"A": frozenset({1}), "B": frozenset({1, 3})}
    assert access_of(run, "B") == {"B": frozenset({1, 3})}
    with pytest.raises(ConfigError, match="run r has no channel 'C'"):
        access_of(run, "C")
    run.job_resolved["channel"][1]["access"].append("ztf_old")
    with pytest.raises(ConfigError, match=r"data rights ztf_old, which survey ztf no longer has"):
        access_of(run)


def test_the_stars_of_a_run_are_found_again(tmp_path: Path) -> None:
    simulation = SimulationEntry(alerts=10)
    job = {
        "archive": {"simulate": json.loads(simulation.model_dump_json())},
        "catalog": {
            "mine": {"file": "/a/stars.parquet", "simulated": None},
            "theirs": {"file": None, "simulated": "stars.parquet"},
        },
    }
    run = run_of(job)
    assert _star_files(Path("lake"), run, "mine") == [Path("/a/stars.parquet")]
    theirs = simulated_dir(simulation) / "stars.parquet"
    assert _star_files(Path("lake"), run, "theirs") == [theirs]


@pytest.fixture
def star_file(tmp_path: Path) -> Path:
    """A catalogue with one star that moves, half an arcsecond from the alerts."""
    star = dict.fromkeys(STAR_COLUMNS, 1.0) | {
        "ra": 180.0,
        "dec": 30.0 + 0.5 / 3600,
        "Mag_G": 18.0,
        "PMRA": 50.0,
    }
    file = tmp_path / "stars.parquet"
    pq.write_table(pa.table({name: [value] for name, value in star.items()}), file)
    return file


def test_the_star_that_vetoes_is_shown_with_its_distance(star_file: Path) -> None:
    judged = ChannelFilter("SN", DECENT, gaia=StarCatalog.open("stars", star_file))
    star = explain(ALERTS[2], judged)[-1]
    assert star.passed is False
    assert star.value == pytest.approx(0.5, abs=1e-6)
    assert star.threshold == pytest.approx(1.8 + 0.6 * 2.718281828 ** (2 / 2.05), rel=1e-6)
    assert explain(ALERTS[2] | {"dec": 31.0}, judged)[-1].value is None


def test_only_the_stars_that_the_run_read_can_explain_it(star_file: Path) -> None:
    job = {"catalog": {"stars": {"file": str(star_file), "simulated": None}}}
    read = {"catalog stars": StarCatalog.open("stars", star_file).content_hash}
    run = replace(run_of(job), inputs=RunInputs.from_json(read))
    stars, off = _stars(star_file.parent, run, "stars")
    assert stars is not None
    assert off == ""
    assert _stars(star_file.parent, run, None) == (None, "the run had no catalogue of stars")
    changed = replace(run, inputs=RunInputs.from_json({"catalog stars": "0" * 32}))
    assert _stars(star_file.parent, changed, "stars") == (
        None,
        f"the catalogue {star_file} has changed since the run",
    )
    star_file.unlink()
    assert _stars(star_file.parent, run, "stars") == (
        None,
        f"the run's catalogue {star_file} is no longer there",
    )
