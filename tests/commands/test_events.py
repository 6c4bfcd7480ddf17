"""Commands on events, without Spark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.conftest import Command
from tests.events.maps import NOTICE, gaussian, write_flat, write_multi_order


def test_events_are_added_listed_shown_plotted_and_compared(
    tmp_path: Path, command: Command
) -> None:
    words = ["--lake", str(tmp_path / "lake")]
    notice = tmp_path / "ic.json"
    notice.write_text(json.dumps([NOTICE, NOTICE | {"event_name": "B", "ra": None}]))
    skymap = write_multi_order(tmp_path / "s.fits", gaussian(4, 50.0, 10.0, 8.0))
    code, out, err = command("event", "add", notice, skymap, *words)
    assert (code, "2 new revisions, 0 there already, 1 left out" in out) == (0, True)
    assert "left out: " in err
    assert "notice 2: ra is missing" in err
    code, out, _ = command("event", "add", notice, skymap, *words, "--format", "json")
    assert (code, json.loads(out)["known"], json.loads(out)["new"]) == (0, 2, [])
    _, out, _ = command("event", "list", *words)
    assert "IceCube-230416A" in out
    assert "2023-04-16 16:54:14" in out
    plot = tmp_path / "sky.svg"
    code, out, _ = command("event", "show", "S1", *words, "--plot", plot)
    assert (code, plot.read_bytes()[:5]) == (0, b"<?xml")
    assert "area_50" in out
    for name in ("IceCube-230416A", "S1"):
        png = tmp_path / f"{name}.png"
        assert command("event", "show", name, *words, "--plot", png)[0] == 0
        assert png.read_bytes().startswith(b"\x89PNG")
    notice.write_text(json.dumps(NOTICE | {"alert_type": "retraction"}))
    assert command("event", "add", notice, *words)[0] == 0
    code, out, _ = command("event", "diff", "1", *words, "--format", "json")
    assert [(row["event"], row["what"]) for row in json.loads(out)] == [("IceCube-230416A", "lost")]
    _, out, _ = command("event", "list", *words)
    assert "IceCube" not in out


def test_what_is_wrong_with_events_is_one_sentence(tmp_path: Path, command: Command) -> None:
    words = ["--lake", str(tmp_path / "lake")]
    half = write_flat(tmp_path / "half.fits", gaussian(3, 0.0, 0.0, 20.0) / 2)
    code, _, err = command("event", "add", half, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert "sums to 0.5 and not to 1" in err
    write_flat(half, gaussian(3, 0.0, 0.0, 20.0))
    assert command("event", "add", half, *words)[0] == 0
    code, _, err = command("event", "show", "S2", *words)
    assert (code, "has no event 'S2'; known: S1" in err) == (2, True)
    code, _, err = command("event", "show", "S1", "--plot", tmp_path / "a.pdf", *words)
    assert (code, "give a file .svg or .png" in err) == (2, True)
    code, _, err = command("event", "add", half, "--sender", "icecubee", *words)
    assert code == 2
    assert "icecubee" in err


@pytest.mark.parametrize("time", ["2024-01-01T00:00:00", "soon"])
def test_a_time_without_a_zone_is_refused(tmp_path: Path, command: Command, time: str) -> None:
    head = {"DATE-OBS": None}
    path = write_flat(tmp_path / "a.fits", gaussian(3, 0.0, 0.0, 20.0), **head)
    code, _, err = command("event", "add", path, "--time", time, "--lake", tmp_path / "lake")
    assert code == 2
    assert "2023-04-16T16:54:14Z" in err
