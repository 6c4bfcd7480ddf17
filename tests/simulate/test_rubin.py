"""Simulated alerts of Rubin are packets of its schema, and what is read of them is their truth."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest

from ampel_spark.archive.reading import packets
from ampel_spark.archive.reading.files import Member, read_members
from ampel_spark.archive.reading.readers import reader_of
from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.load import load_survey
from ampel_spark.simulate import Simulation, simulate_rubin

NUMBERS: dict[str, Any] = {"alerts": 150, "nights": 12, "first_night": "2026-03-01", "seed": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate_rubin(tmp_path_factory.mktemp("rubin") / "archive", **NUMBERS)


def test_the_archive_is_read_as_it_was_made_by_both_ways(
    made: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, files = reader_of(load_survey("lsst")), [str(path) for path in made.archives]
    left: list[str] = []
    plain = packets._decode
    monkeypatch.setattr(packets, "_decode", lambda *a: left.append(a[0]) or plain(*a))
    fast = [row for batch in reader(files) for row in batch.to_pylist()]
    assert left == []
    monkeypatch.setattr(packets, "PLAIN", True)
    slow = [row for batch in reader(files) for row in batch.to_pylist()]
    assert sorted(map(repr, fast)) == sorted(map(repr, slow))
    alerts = [row for row in fast if row["row"] == "packet"]
    assert len(alerts) == len(fast) - len(files) == made.alerts == 150
    truth = {row["stock"]: row for row in pq.read_table(made.truth).to_pylist()}
    assert Counter(row["stock"] for row in alerts) == {
        stock: row["n_alerts"] for stock, row in truth.items() if row["n_alerts"]
    }
    bodies = [row for row in alerts if row["own_columns"]["solar_system"]]
    assert {truth[row["stock"]]["kind"] for row in bodies} == {"asteroid"}
    assert len(bodies) == made.objects["asteroid"] > 20
    # a night begins at 12 h UTC: the file's name is its date
    assert {f"lsst_alerts_{row['night']}.tar.gz" for row in alerts} == {
        path.name for path in made.archives
    }


def test_fastavro_reads_the_packets_and_their_histories_are_earlier_sources(
    made: Simulation,
) -> None:
    shown = 0
    for path in made.archives:
        for member in read_members(path):
            assert isinstance(member, Member)
            (packet,) = fastavro.reader(io.BytesIO(member.data))
            own = packet["diaSource"]
            assert f"{own['diaSourceId']}.avro" == member.name
            assert (own["diaObjectId"] is None) is (packet["ssSource"] is not None)
            for earlier in packet["prvDiaSources"] or ():
                shown += 1
                assert earlier["midpointMjdTai"] < own["midpointMjdTai"]
                assert earlier["diaObjectId"] == own["diaObjectId"]
    assert shown > 30


def test_the_same_numbers_are_the_same_archive(made: Simulation, tmp_path: Path) -> None:
    assert not simulate_rubin(made.path, **NUMBERS).fresh
    again = simulate_rubin(tmp_path / "again", **NUMBERS)
    assert [p.read_bytes() for p in again.archives] == [p.read_bytes() for p in made.archives]
    with pytest.raises(ConfigError, match=r"holds another simulation \(seed 3 instead of 4"):
        simulate_rubin(made.path, **NUMBERS | {"seed": 4})
    with pytest.raises(ConfigError, match="alerts is 0"):
        simulate_rubin(tmp_path / "none", **NUMBERS | {"alerts": 0})
