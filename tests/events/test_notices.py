"""Notices: what is read of each form, and what is refused with which words."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.events.notices import event_of, julian, load_settings, read_notices
from tests.conftest import PROJECT
from tests.events.maps import NOTICE, gaussian, write_flat, write_multi_order


def written(path: Path, notice: Any) -> Path:
    path.write_text(json.dumps(notice))
    return path


def test_a_notice_with_a_circle_an_ellipse_or_a_map_is_read(tmp_path: Path) -> None:
    flat = write_multi_order(tmp_path / "sky.fits", gaussian(4, 50.0, 10.0, 8.0))
    text = base64.b64encode(flat.read_bytes()).decode()
    notices = [
        NOTICE,
        NOTICE | {"event_name": "B", "ra_dec_error": [0.3, 0.9, 10.0]},
        NOTICE | {"event_name": "C", "healpix_file": text},
        NOTICE | {"event_name": "D", "healpix_url": "https://example.org/maps/sky.fits"},
        NOTICE | {"event_name": "E", "healpix_url": "https://example.org/maps/other.fits"},
    ]
    read = read_notices([written(tmp_path / "n.json", notices)])
    one, two, three, four, five = read.events
    assert (one.event, one.sender, one.shape, one.major, one.minor) == (
        "IceCube-230416A", "IceCube", "ellipse", 0.5, 0.5)  # fmt: skip
    assert (one.signalness, one.energy, one.containment) == (0.34064, 121.0, 0.9)
    assert one.jd == pytest.approx(2460051.2043318287, abs=1e-8)
    # the longer axis is the major one, a quarter turn on
    assert (two.major, two.minor, two.angle) == (0.9, 0.3, 100.0)
    assert three.shape == four.shape == "map"
    assert three.content_hash != four.content_hash  # they have other names
    assert three.skymap is not None
    assert three.distance == 120.0
    assert abs(three.ra - 50.0) < 3
    assert five.shape == "ellipse"
    assert len(read.notes) == 1
    assert "notice 5: the map https://example.org/maps/other.fits is not here" in read.notes[0]


def test_alerts_of_ligo_virgo_and_kagra_are_known_by_their_keys(tmp_path: Path) -> None:
    flat = write_multi_order(tmp_path / "sky.fits", gaussian(4, 50.0, 10.0, 8.0))
    alert = {
        "superevent_id": "S240310a", "alert_type": "UPDATE", "time_created": "2024-03-10T01:00:00Z",
        "event": {"time": "2024-03-10T00:00:00.500Z", "far": 1e-9, "pipeline": "gstlal",
                  "skymap": base64.b64encode(flat.read_bytes()).decode()},
    }  # fmt: skip
    gone = {"superevent_id": "S240310a", "alert_type": "RETRACTION", "event": None,
            "time_created": "2024-03-10T03:00:00Z"}  # fmt: skip
    path = tmp_path / "alerts.json"
    path.write_text("\n".join(map(json.dumps, (alert, gone))))
    update, retraction = read_notices([path]).events
    assert (update.sender, update.type, update.shape, update.far) == ("LVK", "update", "map", 1e-9)
    assert (retraction.type, retraction.shape) == ("retraction", "none")
    assert retraction.sent is not None
    assert update.sent is not None
    assert retraction.sent > update.sent


def test_a_table_of_circulars_has_quarters_and_the_day_of_its_names(tmp_path: Path) -> None:
    path = tmp_path / "ic.csv"
    path.write_text(
        "Event,Class,RA,RA Unc (rectangle),Dec,Dec Unc (rectangle),Signalness\n"
        'IC191001A,GOLD,314.08,"[6.56, -2.26]",12.94,"[1.5, -1.47]",0.59\n'
        'IC200101A,GOLD,,"[6.56, -2.26]",12.94,"[1.5, -1.47]",0.59\n'
        "IC200102A,GOLD,1.0,,2.0,,0.59\n"
    )
    read = read_notices([path], load_settings("icecube_table"))
    (event,) = read.events
    assert (event.shape, event.east, event.west, event.north, event.south) == (
        "quarters", 6.56, 2.26, 1.5, 1.47)  # fmt: skip
    assert event.jd == 2458757.5
    assert [text.rpartition(", ")[2] for text in read.left_out] == [
        "row 2: RA is missing", "row 3: RA Unc (rectangle).0 is missing"]  # fmt: skip


@pytest.mark.real_data
def test_the_followed_up_alerts_have_their_published_areas(shared_data: Path) -> None:
    import pyarrow.csv

    path = shared_data / "neutrino" / "icecube_followed_up.csv"
    read = read_notices([path], load_settings("icecube_table"))
    assert (len(read.events), read.left_out) == (34, [])
    published = pyarrow.csv.read_csv(path)["Area (rectangle)"].to_pylist()
    rectangles = [event.area / (3.141592653589793 / 4) for event in read.events]
    assert rectangles == pytest.approx(published, rel=0.0042)
    assert sum(rectangles) == pytest.approx(238.5, abs=0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trigger_time": "2023-04-16T16:54:14"}, "has no zone"),
        ({"trigger_time": "yesterday"}, "is no time"),
        ({"trigger_time": 12.0}, "is no time"),
        ({"event_name": None}, "names no event"),
        ({"ra": None}, "ra is missing"),
        ({"ra": "here"}, "'here' is no number"),
        ({"dec": 91.0}, "is no position"),
        ({"ra_dec_error": None}, "is missing"),
        ({"ra_dec_error": 0.0}, "no error in degrees"),
        ({"ra_dec_error": [1.0, 2.0]}, "has 2 numbers"),
        ({"alert_type": "retracton"}, "retraction"),
        ({"alert_type": "test"}, "no kind of notice"),
        ({"record_number": 1.5}, "no revision"),
        ({"containment_probability": -0.1}, "no probability"),
        ({"healpix_file": "###"}, "no base64"),
        ({"healpix_file": base64.b64encode(b"no map").decode()}, "cannot read healpix_file"),
        ({"ra": None, "healpix_url": "a.fits"}, "the notice has no circle"),
    ],
)
def test_a_notice_that_lacks_something_is_refused_with_its_name(
    change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        event_of(NOTICE | change, load_settings("gcn"))


def test_one_bad_file_or_notice_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{no")
    written(tmp_path / "b.json", [NOTICE | {"ra": None}, NOTICE, 5])
    broken = write_flat(tmp_path / "c.fits", gaussian(3, 0.0, 0.0, 20.0) / 2)
    paths = [tmp_path / "a.json", tmp_path / "b.json", broken, tmp_path / "d.json"]
    read = read_notices(paths)
    assert [event.event for event in read.events] == ["IceCube-230416A"]
    words = ["no JSON", "notice 1: ra is missing", "notice 3", "sums to 0.5", "there is no file"]
    assert len(read.left_out) == len(words)
    assert all(word in text for word, text in zip(words, read.left_out, strict=True))


def test_what_a_file_lacks_can_be_given(tmp_path: Path) -> None:
    head = {"OBJECT": None, "DATE-OBS": None}
    path = write_flat(tmp_path / "a.fits", gaussian(3, 0.0, 0.0, 20.0), **head)
    assert "give --event NAME" in read_notices([path]).left_out[0]
    (event,) = read_notices([path], None, {"event": "X", "time": "2024-01-01T00:00:00Z"}).events
    assert (event.event, event.jd) == ("X", 2460310.5)


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "conf" / "events").glob("*.yml")), ids=lambda path: path.stem
)
def test_settings_of_a_sender_say_what_they_are_and_where_an_event_is(path: Path) -> None:
    settings = load_settings(path.stem)
    assert settings.description
    assert {"event", "time"} <= {*settings.fields}


def test_a_table_of_events_holds_circles_rectangles_and_maps(tmp_path: Path) -> None:
    write_flat(tmp_path / "sky.fits", gaussian(3, 0.0, 0.0, 20.0))
    (tmp_path / "a.csv").write_text(
        "event,sender,time,ra,dec,error,east,west,north,south,map\n"
        "A,KM3NeT,2024-01-01T00:00:00Z,1,2,0.5,,,,,\nB,CTA,2460310.5,1,2,,1,2,3,4,\n"
        "C,X,2460310.5,,,,,,,,sky.fits\n"
    )
    read = read_notices([tmp_path / "a.csv"])
    assert [(e.event, e.sender, e.shape) for e in read.events] == [
        ("A", "KM3NeT", "ellipse"), ("B", "CTA", "quarters"), ("C", "X", "map")]  # fmt: skip
    assert read.left_out == []


def test_times_are_read_with_their_zones() -> None:
    assert julian("2024-01-01T01:00:00+01:00", "time") == 2460310.5
    assert julian("2024-01-01 00:00:00 UTC", "time") == 2460310.5
    assert julian(2460310.5, "time") == 2460310.5
    assert julian("2460310.5", "time") == 2460310.5
