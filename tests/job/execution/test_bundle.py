"""Bundles: a job with all that it names, on another lake; what differs there is named."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampel_spark.cli import main
from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.configuration.model import ResolvedJob
from ampel_spark.job.execution.bundle import (
    Bundle,
    differences,
    is_bundle,
    load_bundle,
    open_bundle,
    publish,
)
from ampel_spark.lake.marker import mark
from ampel_spark.sky.store import Stored, add, folder_of
from tests.t2.conftest import own_modules

__all__ = ["own_modules"]  # a fixture that every test here has

JOB = """\
name: mine
survey: ztf
archive: [night.tar]
calibration: own/release.yml
catalog:
  hosts: {lake: galaxies, columns: [z]}
  near: {file: near.parquet, columns: [z]}
channel:
- {name: SN, access: [ZTF_PUB]}
t0:
- {channel: SN, filter: SimpleDecentFilter, config: {min_ndet: 2}}
t2:
- {unit: "units/mine.py:Mine", name: mine, config: {table: own/numbers.txt}}
- {unit: catalog_match, name: host, config: {catalog: hosts, radius: 5.0}}
- {unit: catalog_match, name: other, config: {catalog: near, radius: 5.0}}
t3:
- {name: best, channel: SN, select: host.distance < 2, columns: [host.distance]}
"""

UNIT = """\
from pathlib import Path

from helper import DOUBLE

from ampel_spark.t2.unit import Column, Unit


class Mine(Unit):
    table: Path
    columns = (Column("n", "int", "", "points"),)

    def process(self, light_curve):
        return {"n": DOUBLE * len(light_curve)}
"""

GALAXIES = pa.table({"id": [1, 2], "ra": [10.0, 11.0], "dec": [1.0, 2.0], "z": [0.1, None]})


@pytest.fixture
def job(tmp_path: Path) -> ResolvedJob:
    folder = tmp_path / "author"
    for inner in ("own", "units"):
        (folder / inner).mkdir(parents=True)
    (folder / "night.tar").write_bytes(b"")
    (folder / "own" / "numbers.txt").write_text("1 2 3\n")
    (folder / "own" / "release.yml").write_text(
        "name: own\ndescription: mine\nrules:\n- {name: one, table: offsets.csv}\n"
    )
    (folder / "own" / "offsets.csv").write_text("rcid,zero_point\n5,0.02\n")
    (folder / "units" / "mine.py").write_text(UNIT)
    (folder / "units" / "helper.py").write_text("DOUBLE = 2\n")
    pq.write_table(GALAXIES.slice(0, 1), folder / "near.parquet")
    add(mark(folder / "lake"), "galaxies", GALAXIES)
    (folder / "mine.yml").write_text(JOB)
    return load_job(folder / "mine.yml", lake=folder / "lake")


@pytest.fixture
def bundle(job: ResolvedJob, tmp_path: Path) -> Path:
    """A bundle, whose author took everything away afterwards."""
    publish(job, tmp_path / "mine.zip")
    shutil.rmtree(tmp_path / "author")
    return tmp_path / "mine.zip"


def received(bundle: Path, tmp_path: Path) -> tuple[Bundle, Path]:
    return open_bundle(bundle, tmp_path / "received"), tmp_path / "receiver"


def test_a_job_is_the_same_where_nothing_of_its_author_is_left(
    job: ResolvedJob, bundle: Path, tmp_path: Path
) -> None:
    assert is_bundle(bundle)
    opened, lake = received(bundle, tmp_path)
    again = load_bundle(opened, lake)
    assert differences(opened, again) == []
    assert (again.name, again.archive) == ("mine", ())
    assert again.calibration == job.calibration
    assert again.calibration.rules[0].table is not None
    assert "author" not in again.written
    then, now = job.resolved, again.resolved
    assert [unit["config"]["radius"] for unit in now["t2"][1:]] == [5.0, 5.0]
    assert then["t0"] == now["t0"]
    assert then["t3"] == now["t3"]
    stored = Stored.open(folder_of(lake, "galaxies"))
    assert stored.rows(range(len(stored.tiles.rows)))["z"].to_pylist() == [0.1, None]
    # what is there already is not added again
    load_bundle(opened, lake)
    assert Stored.open(folder_of(lake, "galaxies")).version == 0


def test_a_bundle_of_one_content_is_one_file(job: ResolvedJob, tmp_path: Path) -> None:
    publish(job, tmp_path / "a.zip")
    publish(job, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with pytest.raises(ConfigError, match=r"a\.zip is there already"):
        publish(job, tmp_path / "a.zip")


def test_a_bundle_beyond_its_bound_is_refused(
    job: ResolvedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (job.file.parent / "own" / "numbers.txt").open("wb") as stream:
        stream.truncate(3 << 20)
    monkeypatch.setenv("AMPEL_SPARK_LIMITS", "file=2")
    with pytest.raises(ConfigError, match=r"with .*numbers\.txt the bundle is larger .*file=4"):
        publish(job, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_catalogue_of_the_receiver_stays_as_it_is(bundle: Path, tmp_path: Path) -> None:
    opened, lake = received(bundle, tmp_path)
    add(mark(lake), "galaxies", GALAXIES.slice(1, 1))
    again = load_bundle(opened, lake)
    assert Stored.open(folder_of(lake, "galaxies")).version == 0
    assert again.catalogs["hosts"].lake != "galaxies"
    assert differences(opened, again) == []


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("code/*/helper.py", "DOUBLE = 3\n", "unit mine has another trace: the code of helper"),
        ("code/*/mine.py", UNIT + "\n\nN = 1\n", "unit mine has another trace: the code of mine"),
        ("files/*/numbers.txt", "4\n", "unit mine has another trace: its parameters"),
        ("calibrations/*/offsets.csv", "rcid,zero_point\n5,0.03\n", "calibration own has another"),
    ],
)
def test_what_is_not_as_it_was_packed_is_named(
    file: str, text: str, said: str, bundle: Path, tmp_path: Path
) -> None:
    opened, lake = received(bundle, tmp_path)
    (found,) = opened.folder.glob(file)
    found.write_text(text)
    lines = differences(opened, load_bundle(opened, lake))
    assert len(lines) == 1
    assert lines[0].startswith(said)


def test_a_library_of_another_version_is_named(bundle: Path, tmp_path: Path) -> None:
    opened, lake = received(bundle, tmp_path)
    trace = opened.about["pins"]["t2"]["host"]
    trace["libraries"]["numpy"] = "1.0"
    trace["trace_id"] = "another"
    (line,) = differences(opened, load_bundle(opened, lake))
    assert line.startswith("unit host has another trace: numpy 1.0, here ")


def test_a_bundle_that_is_damaged_or_reaches_out_of_its_folder_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    about = json.loads(files["bundle.json"])

    def written(name: str, **changed: bytes | dict[str, object]) -> Path:
        path = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for inner, data in (files | changed).items():
                archive.writestr(inner, data if isinstance(data, bytes) else json.dumps(data))
        return path

    for path, said in (
        (written("job", **{"job.yml": b"name: other\n"}), r"damaged: job\.yml is not the file"),
        (written("format", **{"bundle.json": about | {"format": 9}}), "bundle of format 9"),
        (
            written("out", **{"bundle.json": about | {"files": {"../x": {}}}}),
            "outside of its folder",
        ),
        (written("none", **{"bundle.json": {}}), "is no bundle that can be read"),
    ):
        with pytest.raises(ConfigError, match=said):
            open_bundle(path, tmp_path / "received")
    assert not (tmp_path / "received").exists()


def test_a_bundle_is_planned_and_one_that_differs_is_not_run(
    job: ResolvedJob, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ran: list[str] = []
    monkeypatch.setattr("ampel_spark.job.execution.run.forecast", lambda *a, **k: ran.append("dry"))
    lake, to = str(job.file.parent / "lake"), tmp_path / "mine.zip"
    assert main(["publish", str(job.file), "--to", str(to), "--lake", lake]) == 0
    assert "publish: without night.tar: who runs it names" in capsys.readouterr().out
    shutil.rmtree(job.file.parent)
    receiver = tmp_path / "receiver"
    assert main(["run", str(to), "--dry-run", "--lake", str(receiver)]) == 0
    assert ran == ["dry"]
    assert not receiver.exists()
    monkeypatch.setattr("ampel_spark.job.execution.bundle._pins", lambda job: NOTHING)
    assert main(["run", str(to), "--lake", str(receiver)]) == 2
    said = capsys.readouterr().err
    assert "differs: calibration own has another content" in said
    assert "or run it with --anyway" in said


NOTHING = {
    "survey": None, "calibration": {"hash": ""}, "catalogs": {}, "t0": {}, "t2": {},
}  # fmt: skip
