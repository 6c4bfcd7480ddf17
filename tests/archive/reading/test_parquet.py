"""Alerts in Parquet files are what the same alerts are in Avro."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import fastavro
import pyarrow as pa
import pytest
from pyarrow import parquet

from ampel_spark.archive.reading.files import Member, read_members
from ampel_spark.archive.reading.readers import reader_of
from ampel_spark.job.configuration.load import load_survey
from tests.archive.conftest import Make

SURVEY = "ztf_parquet"
PLACE = ("file", "member", "sha256", "seen", "bytes")


def _rows(batches: list[pa.RecordBatch]) -> dict[int, dict[str, object]]:
    return {
        r["alert_id"]: {k: v for k, v in r.items() if k not in PLACE}
        for b in batches
        for r in b.to_pylist()
        if r["row"] == "packet"
    }


def test_real_alerts_are_the_same_from_parquet_as_from_avro(
    shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "ztf_alerts" / "archive" / "ztf_public_20231018.tar.gz"
    packets = []
    for member in read_members(source):
        assert isinstance(member, Member)
        (packet,) = fastavro.reader(io.BytesIO(member.data))
        packets.append({k: v for k, v in packet.items() if not k.startswith("cutout")})
    assert len(packets) > 300
    path = tmp_path / "export.parquet"
    parquet.write_table(pa.Table.from_pylist(packets), path)
    ours = _rows(list(reader_of(load_survey(SURVEY))([str(path)])))
    theirs = _rows(list(reader_of(load_survey("ztf"))([str(source)])))
    assert ours == theirs


def test_a_brokers_export_is_one_object_state_after_state(shared_data: Path) -> None:
    path = shared_data / "ztf_alerts" / "parquet" / "tde_ZTF20abfcszi_202008.parquet"
    batches = list(reader_of(load_survey(SURVEY))([str(path)]))
    rows = [r for b in batches for r in b.to_pylist()]
    assert Counter(r["row"] for r in rows) == {"packet": 21, "end": 1}
    alerts = rows[:-1]
    table = parquet.read_table(path, columns=["candid", "candidate"])
    assert {r["alert_id"] for r in alerts} == set(table["candid"].to_pylist())
    for r, candidate in zip(alerts, table["candidate"].to_pylist(), strict=True):
        assert (r["survey"], r["name"]) == ("ztf", "ZTF20abfcszi")
        assert r["magpsf"] == pytest.approx(candidate["magpsf"])
    assert '"fink_broker_version"' in alerts[0]["extra"]


def test_damage_is_accounted_for(make: Make, tmp_path: Path) -> None:
    good = make.packet(make.detection(1, 2458300.5), name="ZTF18aaaaaab")
    wrong = make.packet(make.detection(2, 2458300.5), name="no ZTF name")
    path = tmp_path / "export.parquet"
    parquet.write_table(pa.Table.from_pylist([good, wrong]), path)
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-50])
    files = [str(tmp_path / n) for n in ("export.parquet", "cut.parquet")]
    rows = [r for b in reader_of(load_survey(SURVEY))(files) for r in b.to_pylist()]
    found = [(Path(r["file"]).name, r["row"], r["reason"], r["seen"]) for r in rows]
    assert sorted(found, key=repr) == sorted(
        [
            ("export.parquet", "packet", None, None),
            ("export.parquet", "bad", "bad_value", None),
            ("export.parquet", "end", None, 2),
            ("cut.parquet", "broken", "broken_archive", None),
            ("cut.parquet", "end", None, 0),
        ],
        key=repr,
    )


@pytest.mark.parametrize(
    ("survey", "column"), [("ztf_parquet", "candidate"), ("lsst", "diaSource")]
)
def test_a_file_of_something_else_is_one_broken_file(
    survey: str, column: str, tmp_path: Path
) -> None:
    path = tmp_path / "objects.parquet"
    parquet.write_table(pa.table({"name": ["a", "b"], "z": [0.1, 0.2]}), path)
    rows = [r for b in reader_of(load_survey(survey))([str(path)]) for r in b.to_pylist()]
    assert [r["row"] for r in rows] == ["broken", "end"]
    assert f"no column {column}; its columns are name, z" in rows[0]["detail"]
