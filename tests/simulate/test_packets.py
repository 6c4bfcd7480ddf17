"""Packets: the survey's schema, and histories that are exactly what had been observed."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ampel_spark.simulate import Simulation
from ampel_spark.simulate.avro import record
from ampel_spark.simulate.survey import night_name
from tests.simulate.conftest import Packet, members

RECORDS = {"candidate": "candidate", "prv_candidates": "prv_candidate", "fp_hists": "fp_hist"}


def by_object(packets: list[Packet]) -> dict[str, list[Packet]]:
    found: dict[str, list[Packet]] = defaultdict(list)
    for packet in packets:
        found[packet["objectId"]].append(packet)
    return found


@pytest.mark.real_data
@pytest.mark.parametrize("name", RECORDS)
def test_fields_are_the_surveys_in_its_order(name: str, shared_data: Path) -> None:
    file = shared_data / "ztf_alerts" / "schemas" / f"{RECORDS[name]}.avsc"
    fields = json.loads(file.read_text())["fields"]
    expected = [
        (field["name"], field["type"], False)
        if isinstance(field["type"], str)
        else (field["name"], field["type"][1], True)
        for field in fields
    ]
    assert list(record(name)) == expected


def test_a_packet_lies_in_the_file_of_its_utc_date(simulation: Simulation) -> None:
    for path, name, _ in members(simulation.archives):
        nid = int(name.removesuffix(".avro")) // 10**15
        assert path.name == f"ztf_public_{night_name(nid)}.tar.gz"


def test_a_packet_repeats_its_id_and_is_in_order(packets: list[Packet]) -> None:
    assert all(p["candid"] == p["candidate"]["candid"] for p in packets)
    ids = [packet["candid"] for packet in packets]
    assert ids == sorted(ids)
    assert {packet["schemavsn"] for packet in packets} == {"4.02"}


def test_a_history_is_what_was_observed_in_the_30_days_before(packets: list[Packet]) -> None:
    compared = 0
    for series in by_object(packets).values():
        # All that any packet of the object shows: what had been observed of it.
        shown = {
            (point["jd"], point["candid"])
            for packet in series
            for point in [packet["candidate"], *(packet["prv_candidates"] or [])]
        }
        for packet in series:
            now = packet["candidate"]["jd"]
            expected = sorted(point for point in shown if now - 30.0 <= point[0] < now)
            found = [(point["jd"], point["candid"]) for point in packet["prv_candidates"] or []]
            assert found == expected
            compared += len(found)
    assert compared > 10_000


def test_a_detection_is_repeated_with_fewer_digits(packets: list[Packet]) -> None:
    own = {packet["candid"]: packet["candidate"] for packet in packets}
    pairs = [
        (own[point["candid"]], point)
        for packet in packets
        for point in packet["prv_candidates"] or []
        if point["candid"] in own
    ]
    assert len(pairs) > 1000
    first, later = (pd.DataFrame(side) for side in zip(*pairs, strict=True))
    assert (first["magpsf"] - later["magpsf"]).abs().max() < 1e-4
    assert (first["magpsf"] != later["magpsf"]).mean() > 0.5
    for name in ("jd", "fid", "pid", "ra", "dec", "isdiffpos", "rcid", "diffmaglim", "programid"):
        assert (first[name] == later[name]).all()


def test_detections_are_significant_and_limits_are_empty(packets: list[Packet]) -> None:
    limits = 0
    for packet in packets:
        for point in packet["prv_candidates"] or []:
            if point["candid"] is None:
                limits += 1
                assert point["magpsf"] is point["isdiffpos"] is point["ra"] is None
                assert 15.0 < point["diffmaglim"] < 22.0
            else:
                assert 2.5 / np.log(10) / point["sigmapsf"] > 4.999
    assert limits > 5000


def test_objects_in_one_image_share_its_numbers(packets: list[Packet]) -> None:
    images: dict[int, set[Any]] = defaultdict(set)
    for packet in packets:
        for point in [packet["candidate"], *(packet["prv_candidates"] or [])]:
            image = (
                "jd",
                "fid",
                "field",
                "rcid",
                "programid",
                "diffmaglim",
                "magzpsci",
                "clrcoeff",
            )
            images[point["pid"]].add(tuple(point[name] for name in image))
    assert all(len(variants) == 1 for variants in images.values())


def test_forced_photometry_covers_the_nights_before_newest_first(packets: list[Packet]) -> None:
    rows = 0
    for packet in packets:
        forced = packet["fp_hists"]
        if forced is None:
            continue
        jds = [row["jd"] for row in forced]
        candidate = packet["candidate"]
        assert jds == sorted(jds, reverse=True)
        assert max(jds) < np.floor(candidate["jd"] - 0.5) + 0.5
        assert min(jds) >= candidate["jd"] - 30.0
        history = packet["prv_candidates"] or []
        before = [p["jd"] for p in history if p["nid"] < candidate["nid"]]
        assert sorted(jds) == before
        rows += len(jds)
    assert rows > 1000


def test_forced_fluxes_are_those_of_the_detections(packets: list[Packet]) -> None:
    own = {(p["objectId"], p["candidate"]["jd"]): p["candidate"] for p in packets}
    ratios, unusable, usable = [], 0, 0
    for packet in packets:
        for row in packet["fp_hists"] or []:
            if row["forcediffimflux"] == -99999.0:
                assert row["procstatus"] == "61"
                unusable += 1
                continue
            usable += 1
            candidate = own.get((packet["objectId"], row["jd"]))
            if candidate is not None:
                flux = 10.0 ** (-0.4 * (candidate["magpsf"] - row["magzpsci"]))
                sign = 1.0 if candidate["isdiffpos"] == "t" else -1.0
                ratios.append(row["forcediffimflux"] / flux * sign)
    assert len(ratios) > 300
    np.testing.assert_allclose(ratios, 1.0, rtol=1e-5)
    assert 0.02 < unusable / (usable + unusable) < 0.09


def test_counts_of_detections_grow_from_alert_to_alert(packets: list[Packet]) -> None:
    for series in by_object(packets).values():
        candidates = [packet["candidate"] for packet in series]
        for name in ("ndethist", "ncovhist"):
            values = [candidate[name] for candidate in candidates]
            assert values == sorted(set(values))
        assert len({candidate["jdstarthist"] for candidate in candidates}) == 1
        assert all(c["jdstarthist"] <= c["jdendhist"] == c["jd"] for c in candidates)
