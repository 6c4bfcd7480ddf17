"""The Arrow kernel agrees with a plain loop, whatever the batch."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ampel_spark.lightcurve import DETECTION, FORCED, POINT_FIELDS, UPPER_LIMIT
from ampel_spark.t1.assemble import LIGHT_CURVE_SCHEMA, assemble, batch_of
from ampel_spark.t1.links import link_of

_ARROW = {"i8": pa.int64(), "i4": pa.int32(), "i1": pa.int8(), "f8": pa.float64(), "O": pa.string()}
POINT = pa.struct(
    [
        ("datapoint_id", pa.int64()),
        ("revision", pa.int32()),
        *((n, _ARROW[k]) for n, (k, _) in POINT_FIELDS.items() if n != "datapoint_id"),
    ]
)


def point(i: int, jd: float, revision: int = 0, **changes: Any) -> dict[str, Any]:
    limit = i < 0
    return {"datapoint_id": i, "revision": revision, "kind": UPPER_LIMIT if limit else DETECTION,
            "jd": jd, "band": "ztfg", "mag": None if limit else 18.0 + i / 100,
            "magerr": None if limit else 0.1, "limit_mag": 20.5, "sign": 0 if limit else 1,
            "flux": None, "fluxerr": None, "zp": None, "zpsys": "ab", "programid": 1, "field": 5,
            "rcid": 1, "ra": None if limit else 10.0, "dec": None if limit else 1.0,
            **changes}  # fmt: skip


def batch(objects: list[list[dict[str, Any]]]) -> pa.RecordBatch:
    n = len(objects)
    ordered = [sorted(o, key=lambda p: (p["datapoint_id"], p["revision"])) for o in objects]
    return pa.RecordBatch.from_arrays(
        [pa.array(range(n), pa.int64()), pa.array(["ztf"] * n),
         pa.array(range(100, 100 + n), pa.int64()), pa.array([f"ZTF{i}" for i in range(n)]),
         pa.array(ordered, pa.list_(POINT))],
        names=["request", "survey", "stock", "name", "points"],
    )  # fmt: skip


@pytest.fixture
def objects() -> list[list[dict[str, Any]]]:
    rng = np.random.default_rng(5)
    made = []
    for n in (3, 1, 8, 5):
        ids = rng.permutation(np.concatenate([np.arange(1, n + 1), -np.arange(1, n + 1)]))
        made.append(
            [
                point(int(i), 2458000.5 + float(rng.integers(0, 4)), rcid=int(rng.integers(0, 2)))
                for i in ids
            ]
        )
    made[0].append(point(2, made[0][0]["jd"], revision=1, mag=15.0))
    return made


def plain(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rules as a loop over dictionaries."""
    last: dict[int, dict[str, Any]] = {}
    for p in sorted(points, key=lambda p: p["revision"]):
        last[p["datapoint_id"]] = p
    kept: dict[Any, dict[str, Any]] = {}
    for p in sorted(last.values(), key=lambda p: p["datapoint_id"]):
        kept[p["jd"], p["rcid"]] = p
    return sorted(kept.values(), key=lambda p: (p["jd"], p["datapoint_id"]))


def test_a_revision_without_a_flux_takes_forced_photometry_away() -> None:
    forced = {"kind": FORCED, "flux": 100.0, "fluxerr": 2.0, "zp": 25.0}
    taken = point(7, 2458001.5, revision=1, **(forced | {"flux": None, "fluxerr": None}))
    given = [point(5, 2458000.5), point(7, 2458001.5, **forced)]
    kept, rest, nothing = ([*given], [*given, taken], [given[1], taken])
    rows = assemble(batch([kept, rest, nothing])).to_pylist()
    assert [row["datapoint_ids"] for row in rows] == [[5, 7], [5]]


def test_states_are_those_of_a_plain_loop(objects) -> None:
    rows = assemble(batch(objects)).to_pylist()
    assert len(rows) == len(objects)
    for row, points in zip(rows, map(plain, objects), strict=True):
        assert row["lc_datapoint_id"] == [p["datapoint_id"] for p in points]
        assert row["datapoint_ids"] == sorted(row["lc_datapoint_id"])
        assert row["link"] == link_of(row["datapoint_ids"])
        assert row["lc_mag"] == [p["mag"] for p in points]
        jds = [p["jd"] for p in points if p["datapoint_id"] > 0]
        assert row["n_detections"] == len(jds)
        assert row["n_upper_limits"] == len(points) - len(jds)
        assert (row["jd_first"], row["jd_last"]) == ((min(jds), max(jds)) if jds else (None, None))


def test_a_state_does_not_depend_on_the_batch_it_came_in(objects) -> None:
    together = assemble(batch(objects)).column("state_id").to_pylist()
    for i, points in enumerate(objects):
        alone = batch([[]] * i + [points])
        assert assemble(alone).column("state_id").to_pylist() == [together[i]]


def test_a_request_without_points_gives_no_state(objects) -> None:
    made = assemble(batch([[], objects[0], []]))
    assert made.schema == LIGHT_CURVE_SCHEMA
    assert made.column("stock").to_pylist() == [101]
    assert assemble(batch([])).num_rows == 0


def test_another_value_or_object_is_another_state(objects) -> None:
    base = assemble(batch(objects[1:2])).column("state_id")[0].as_py()
    changed = [{**p, "mag": p["mag"] and p["mag"] + 0.05} for p in objects[1]]
    other = assemble(batch([changed]))
    assert other.column("state_id")[0].as_py() != base
    assert other.column("link")[0].as_py() == link_of(p["datapoint_id"] for p in plain(objects[1]))


def test_light_curves_come_back_as_arrays(objects) -> None:
    curves = batch_of(assemble(batch(objects)))
    assert [len(c) for c in curves] == [len(plain(o)) for o in objects]
    first = curves[0]
    assert first.detections.band.tolist() == ["ztfg"] * len(first.detections)
    assert np.isnan(first.upper_limits.mag).all()
    assert first.position() == pytest.approx((10.0, 1.0))


def test_a_source_that_the_survey_withdrew_leaves_the_state() -> None:
    shown = [point(1, 2458000.5), point(2, 2458001.5)]
    gone = point(2, 2458001.5, 1, mag=None, magerr=None, sign=None)
    (row,) = assemble(batch([[*shown, gone]])).to_pylist()
    assert row["datapoint_ids"] == [1]
    assert assemble(batch([[shown[1], gone]])).num_rows == 0
