"""The recipe of ZTF's forced photometry: what it does is what its document says, step by step.

The truth is a plain twin, written after the document row by row, and fluxes that were put in.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.archive.reading.photometry import objects_of, read_photometry
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.archive.reading.ztf import POINT_COLUMNS
from ampel_spark.job.configuration.load import load_survey

NAMES = [name for name, _ in POINT_COLUMNS]
HEAD = ("index, field, ccdid, qid, filter, infobitssci, sciinpseeing, scisigpix, zpdiff, programid,"
        " jd, forcediffimflux, forcediffimfluxunc, forcediffimchisq, nearestrefmag,"
        " nearestrefmagunc, procstatus")  # fmt: skip
PEAK = 2459000.5
Row = dict[str, Any]


def read(path: Path, **recipe: Any) -> tuple[list[Row], dict[str, Any]]:
    """Return the points of a file by time, and what is noted of the recipe."""
    settings = load_survey("ztf_forced")
    assert settings.photometry is not None
    if recipe:
        made = settings.model_dump(exclude_none=True, exclude={"columns"})
        made["photometry"]["recipe"] |= recipe
        settings = Survey.model_validate(made)
    (packet,), bad = objects_of(read_photometry(str(path), settings), settings)
    assert bad == []
    points = [dict(zip(NAMES, point, strict=True)) for point in packet.forced]
    return sorted(points, key=lambda p: p["jd"]), json.loads(packet.own or "")


def written(rows: list[Row], path: Path) -> Path:
    names = [name.strip() for name in HEAD.split(",")]
    usual = {"field": 602, "ccdid": 11, "qid": 2, "filter": "ZTF_g", "infobitssci": 0,
             "sciinpseeing": 2.1, "scisigpix": 12.3, "zpdiff": 26.2, "programid": 1,
             "forcediffimfluxunc": 10.0, "forcediffimchisq": 1.21, "nearestrefmag": 21.3,
             "nearestrefmagunc": 0.1, "procstatus": "0"}  # fmt: skip
    lines = ["# Requested input R.A. = 151.25 deg", "#", HEAD]
    for i, row in enumerate(rows):
        one = usual | {"index": i} | row
        lines.append(" ".join(str(one[name]) for name in names))
    path.write_text("\n".join(lines) + "\n")
    return path


def transient(jd: float, size: float = 3000.0) -> float:
    return size * math.exp(-(((jd - PEAK) / 15.0) ** 2))


def made(seed: int, days: range, level: float, **more: Any) -> list[Row]:
    draw = random.Random(seed)
    return [
        {"jd": PEAK + day + 0.25, "forcediffimflux": round(
            level + transient(PEAK + day + 0.25) + draw.gauss(0, 10.0), 4)} | more
        for day in days
    ]  # fmt: skip


def test_each_reference_image_has_a_baseline_of_its_own(tmp_path: Path) -> None:
    """A level of 40 DN in one quadrant and of -25 DN in another go, and the transient stays."""
    rows = made(1, range(-400, 60, 4), 40.0) + made(2, range(-399, 60, 4), -25.0, qid=3)
    points, own = read(written(rows, tmp_path / "req1_lc.txt"))
    for p in points:
        assert p["flux"] == pytest.approx(transient(p["jd"]), abs=45.0)
        assert p["fluxerr"] == pytest.approx(11.0)  # by the square root of the median of 1.21
    assert {p["rcid"] for p in points} == {42, 43}
    first, second = (own["recipe"][f"602/11/{q}/ZTF_g"] for q in (2, 3))
    assert first["baseline"] == pytest.approx(40.0, abs=3.0)
    assert second["baseline"] == pytest.approx(-25.0, abs=3.0)
    assert (first["baseline_points"], first["baseline_from"]) == (75, "before")


def test_a_baseline_is_taken_after_the_transient_where_too_little_is_before(tmp_path: Path) -> None:
    rows = made(3, range(-30, 900, 5), 12.0)
    _, own = read(written(rows, tmp_path / "req1_lc.txt"))
    (note,) = own["recipe"].values()
    assert (note["baseline_from"], note["baseline_points"]) == ("after", 80)
    assert note["baseline"] == pytest.approx(12.0, abs=4.0)
    # neither before nor after: as it was measured, and said so
    points, own = read(written(made(3, range(-30, 60, 5), 12.0), tmp_path / "req2_lc.txt"))
    (note,) = own["recipe"].values()
    assert note["baseline"] is None
    assert points[0]["flux"] == pytest.approx(12.0 + transient(points[0]["jd"]), abs=40.0)
    # a bad image alone is no maximum
    rows = [*made(4, range(-400, 60, 4), 0.0), {"jd": PEAK - 350.9, "forcediffimflux": 99999.0}]
    _, own = read(written(rows, tmp_path / "req3_lc.txt"))
    (note,) = own["recipe"].values()
    assert note["baseline_from"] == "before"
    assert 74 <= note["baseline_points"] <= 77
    _, own = read(tmp_path / "req3_lc.txt", baseline={"until": PEAK - 200.0})
    (note,) = own["recipe"].values()
    assert note["baseline_points"] == 51


@pytest.mark.filterwarnings("error")
def test_an_error_so_small_that_its_ratio_overflows_is_no_maximum(tmp_path: Path) -> None:
    tiny = [{"jd": PEAK - 300 + i / 100, "forcediffimflux": level, "forcediffimfluxunc": 1e-320}
            for i, level in enumerate((5000.0, -5000.0))]  # fmt: skip
    points, own = read(written(made(6, range(-400, 60, 4), 5.0) + tiny, tmp_path / "req1_lc.txt"))
    (note,) = own["recipe"].values()
    assert (len(points), note["baseline_from"]) == (117, "before")
    assert note["baseline"] == pytest.approx(5.0, abs=4.0)


def test_rows_that_are_not_usable_are_in_no_baseline_and_no_median(tmp_path: Path) -> None:
    rows = made(5, range(-400, 60, 4), 5.0)
    bad = [{"jd": PEAK - 300 + i / 100, "forcediffimflux": 5000.0, "forcediffimchisq": 99.0} | why
           for i, why in enumerate((
               {"infobitssci": 33554432}, {"scisigpix": 26}, {"sciinpseeing": 4.5},
               {"procstatus": "56,255"}, {"forcediffimflux": "null"},
           ))]  # fmt: skip
    with_bad, own = read(written(rows + bad, tmp_path / "req1_lc.txt"))
    without, alone = read(written(rows, tmp_path / "req2_lc.txt"))
    assert own["recipe"] == alone["recipe"]
    assert [p["flux"] for p in with_bad if p["flux"] is not None] == [p["flux"] for p in without]
    said = [p["procstatus"] for p in with_bad if p["flux"] is None]
    assert said == ["infobitssci 33554432", "scisigpix 26", "sciinpseeing 4.5",
                    "procstatus 56,255", "no flux"]  # fmt: skip


def test_limits_and_the_reference_s_flux_are_the_document_s(tmp_path: Path) -> None:
    path = written(made(6, range(-400, 60, 4), 0.0), tmp_path / "req1_lc.txt")
    points, _ = read(path)
    for p in points:
        limit = 26.2 - 2.5 * math.log10(5 * p["fluxerr"])
        faint = p["flux"] / p["fluxerr"] < 3
        assert p["limit_mag"] == (pytest.approx(limit) if faint else None)
    whole, _ = read(path, reference={"mag": "nearestrefmag", "magerr": "nearestrefmagunc"})
    more = 10 ** (0.4 * (26.2 - 21.3))
    unc = 0.1 * more / 1.0857362
    for p, q in zip(points, whole, strict=True):
        assert q["flux"] - p["flux"] == pytest.approx(more)
        assert q["fluxerr"] == pytest.approx(math.sqrt(p["fluxerr"] ** 2 - unc**2), rel=1e-6)


def twin(rows: list[Row]) -> dict[float, tuple[float, float]]:
    """Return fluxes and errors by JD, as the document has it: baseline, and scaled errors."""
    good = [r for r in rows if r["forcediffimflux"] != "null" and float(r["scisigpix"]) <= 25
            and float(r["sciinpseeing"]) <= 4 and not int(r["infobitssci"]) & 33554432]  # fmt: skip
    groups: dict[tuple[str, ...], list[Row]] = {}
    for r in good:
        groups.setdefault((r["field"], r["ccdid"], r["qid"], r["filter"]), []).append(r)
    best, peak = 5.0, 0.0
    for mine in groups.values():
        level = statistics.median(float(r["forcediffimflux"]) for r in mine)
        for r in mine:
            near = [s for s in mine if abs(float(s["jd"]) - float(r["jd"])) <= 7]
            snr = statistics.median(
                (float(s["forcediffimflux"]) - level) / float(s["forcediffimfluxunc"]) for s in near
            )
            if len(near) >= 3 and snr > best:
                best, peak = snr, float(r["jd"])
    found = {}
    for mine in groups.values():
        empty = [float(r["forcediffimflux"]) for r in mine if float(r["jd"]) < peak - 100]
        level = statistics.median(empty) if len(empty) >= 10 else 0.0
        scale = math.sqrt(statistics.median(float(r["forcediffimchisq"]) for r in mine))
        for r in mine:
            found[float(r["jd"])] = (
                float(r["forcediffimflux"]) - level, float(r["forcediffimfluxunc"]) * scale
            )  # fmt: skip
    return found


def test_a_real_table_of_the_service_agrees_with_the_plain_twin(shared_data: Path) -> None:
    path = shared_data / "ztf_forced" / "forcedphotometry_req00149191_lc.txt"
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    names = [name.strip(",") for name in lines[0]]
    rows = [dict(zip(names, words, strict=True)) for words in lines[1:]]
    right = twin(rows)
    points, own = read(path)
    assert len(points) == len(rows) == 455
    usable = [p for p in points if p["flux"] is not None]
    assert len(usable) == len(right) == 389
    for p in usable:
        flux, error = right[p["jd"]]
        assert (p["flux"], p["fluxerr"]) == pytest.approx((flux, error), rel=1e-12, abs=1e-9)
    assert own["recipe"]["426/4/3/ZTF_r"]["baseline_points"] == 159
    # the service's own id of a readout channel, in the processing id of the image
    assert {p["rcid"] for p in points} == {int(r["pid"]) % 10000 // 100 for r in rows} == {15}
    assert {p["programid"] for p in points} == {1, 2, 3}


def test_odd_values_cost_their_rows_and_no_table(tmp_path: Path) -> None:
    """Every column takes odd words: rows add up, and nothing is raised."""
    draw = random.Random(18)
    words = ["null", "nan", "-99999", "abc", "inf", "-1", "0", "1e300", "9" * 20, "56,255", "2.5"]
    for _ in range(25):
        rows = made(7, range(-400, 60, 8), 3.0)
        for place in draw.sample(range(len(rows)), 3):
            name = draw.choice([name.strip() for name in HEAD.split(",")][1:])
            rows[place] = {**rows[place], name: draw.choice(words)}
        path = written(rows, tmp_path / "req1_lc.txt")
        settings = load_survey("ztf_forced")
        packets, bad = objects_of(read_photometry(str(path), settings), settings)
        taken = sum(json.loads(p.own or "")["rows"] for p in packets)
        assert taken + len(bad) == len(rows)
        for point in (p for packet in packets for p in packet.forced):
            usable = point[NAMES.index("flux")] is not None
            assert usable == (point[NAMES.index("procstatus")] is None)
            assert not usable or math.isfinite(point[NAMES.index("fluxerr")])
