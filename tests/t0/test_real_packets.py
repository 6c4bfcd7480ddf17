"""Engine and twin on the survey's own packets."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import fastavro
import pytest
from astropy.coordinates import SkyCoord
from pyspark.sql import SparkSession

from ampel_spark.t0 import ChannelFilter, Conditions, SimpleDecentFilter, make_filter
from ampel_spark.t0.judge import judge
from tests.t0.packets import HU_RAPID, Packet, alerts, by_alert, disagreements
from tests.t0.twin import judge_packet

pytestmark = [pytest.mark.spark, pytest.mark.real_data]

PUBLIC = frozenset({1})


@pytest.fixture(scope="module")
def packets(shared_data: Path) -> list[Packet]:
    """All packets of the nightly archive."""
    found = []
    for path in sorted((shared_data / "ztf_alerts" / "archive").glob("*.tar.gz")):
        with tarfile.open(path) as tar:
            for member in tar:
                if (file := tar.extractfile(member)) is not None:
                    found += list(fastavro.reader(io.BytesIO(file.read())))
    assert len(found) == 1216
    return found


def latitude(ra: float, dec: float) -> float:
    return float(SkyCoord(ra, dec, unit="deg").galactic.b.deg)


def test_the_engine_says_what_the_twin_says_with_the_latitude_of_astropy(
    spark: SparkSession, packets: list[Packet]
) -> None:
    conditions = Conditions(
        conditions=(
            "magpsf < 19",
            "isdiffpos in [t, 1]",
            "drb >= 0.9 or missing",
            "abs(gal_lat) > 10",
        )
    )
    wide = HU_RAPID | {"min_ndet": 1, "max_tspan": 50, "min_drb": 0.9}
    selections = [
        ChannelFilter("rapid", make_filter("DecentFilter", HU_RAPID), PUBLIC),
        ChannelFilter("wide", make_filter("DecentFilter", wide), frozenset({1, 2})),
        ChannelFilter("simple", SimpleDecentFilter(min_gal_lat=10)),
        ChannelFilter("conditions", conditions, PUBLIC),
    ]
    found = by_alert(judge(alerts(spark, packets), selections))
    for s in selections:
        verdicts = {
            p["candidate"]["candid"]: judge_packet(p, s.filter, access=s.access, latitude=latitude)
            for p in packets
        }
        assert disagreements(found, s.channel, verdicts) == []
        assert any(v is not None and v.accepted for v in verdicts.values())
    assert sum(channel == "rapid" for channel, _ in found) == 1208
    assert sum(channel == "wide" for channel, _ in found) == 1213
    assert sum(channel == "simple" for channel, _ in found) == 1216


def test_many_real_alerts_have_an_archive_history_of_no_length(
    spark: SparkSession, packets: list[Packet]
) -> None:
    """AMPEL's strict comparison drops every one of them at the default."""
    point = {
        p["candidate"]["candid"]
        for p in packets
        if p["candidate"]["jdendhist"] == p["candidate"]["jdstarthist"]
    }
    assert len(point) == 403
    everything = SimpleDecentFilter(
        min_ndet=1, min_tspan=0, max_tspan=1e5, min_rb=0, max_fwhm=99, max_elong=99, max_magdiff=99,
        max_nbad=99, min_sso_dist=0, ps1_sgveto_rad=0, ps1_confusion_rad=0,
    )  # fmt: skip
    found = by_alert(judge(alerts(spark, packets), [ChannelFilter("A", everything)]))
    cuts = {found["A", candid].cut for candid in point}
    assert cuts <= {None, "isdiffpos"}
    assert sum(found["A", candid].accepted for candid in point) > 100
