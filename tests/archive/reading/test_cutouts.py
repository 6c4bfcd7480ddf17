"""Cutouts: those of stored alerts, once, byte for byte."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import fastavro
import pytest
from pyspark.sql import SparkSession

from ampel_spark.archive.reading.cutouts import CUTOUTS, keep_cutouts, read_cutouts
from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.lake.commits import insert
from ampel_spark.lake.lake import Lake
from tests.archive.conftest import SCHEMA, Make

CUTOUT = {
    "type": "record", "name": "cutout",
    "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
}  # fmt: skip


def _member(make: Make, candid: int, image: bytes) -> bytes:
    kinds = ("Science", "Template", "Difference")
    schema = SCHEMA | {
        "fields": [
            *SCHEMA["fields"],
            *({"name": f"cutout{k}", "type": ["null", CUTOUT if not i else "cutout"]}
              for i, k in enumerate(kinds)),
        ]
    }  # fmt: skip
    images = {f"cutout{k}": {"fileName": "a", "stampData": image + k.encode()} for k in kinds}
    packet = make.packet(make.detection(candid, 2458300.5)) | (images if image else {})
    return make.avro(packet, schema)


@pytest.mark.spark
def test_cutouts_of_stored_alerts_enter_once(
    spark: SparkSession, make: Make, lake_path: Path, tmp_path: Path
) -> None:
    members = {f"{n}.avro": _member(make, n, image) for n, image in ((1, b"a"), (2, b"b"))}
    members |= {"3.avro": _member(make, 3, b""), "4.avro": b"Obj\x01 broken"}
    path = tmp_path / "night.tar.gz"
    path.write_bytes(gzip.compress(make.tar(members)))
    lake = Lake(spark, lake_path)
    table = alerts_table()
    stored = [tuple({"survey": "ztf", "alert_id": n}.get(c) for c in table.names) for n in (1, 3)]
    insert(lake, table, spark.createDataFrame(stored, table.schema()), {})
    # alert 2 is not stored, 3 has no cutouts, 4 cannot be read
    assert [keep_cutouts(lake, [path], "r", out=lambda _: None) for _ in range(2)] == [1, 0]
    (row,) = lake.read(CUTOUTS.name).collect()
    assert (row["alert_id"], bytes(row["science"]), bytes(row["difference"])) == (
        1,
        b"aScience",
        b"aDifference",
    )


def test_real_cutouts_are_images(packed_data: Path) -> None:
    (path, *_) = sorted((packed_data / "packets_full").rglob("*.avro"))
    (row,) = read_cutouts(str(path))
    (packet,) = fastavro.reader(io.BytesIO(path.read_bytes()))
    assert row["alert_id"] == packet["candid"]
    assert row["template"] == packet["cutoutTemplate"]["stampData"]
    assert gzip.decompress(row["difference"]).startswith(b"SIMPLE  =")
