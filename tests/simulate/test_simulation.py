"""The simulation as a whole: same bytes, same folder, clear errors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.errors import ConfigError, SetupError
from ampel_spark.simulate import QUICKSTART, Simulation, lightcurves, simulate
from tests.simulate.conftest import SMALL, members

TINY: dict[str, Any] = {"alerts": 60, "nights": 12, "first_night": "2024-05-01", "seed": 1}


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all files of a folder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def test_two_workers_write_the_same_bytes_as_one(simulation: Simulation, tmp_path: Path) -> None:
    other = simulate(tmp_path / "other", workers=2, **SMALL)
    assert contents(other.path) == contents(simulation.path)


def test_another_seed_makes_another_archive(tmp_path: Path) -> None:
    first, second = (
        simulate(tmp_path / str(seed), **TINY | {"seed": seed}).truth for seed in (1, 2)
    )
    assert first.read_bytes() != second.read_bytes()


def test_the_number_of_alerts_is_met_exactly(simulation: Simulation) -> None:
    names = [name for _, name, _ in members(simulation.archives)]
    assert len(names) == simulation.alerts == sum(simulation.nights.values()) == SMALL["alerts"]
    assert len(set(names)) == len(names)


def test_a_number_of_objects_is_met_exactly(tmp_path: Path) -> None:
    parameters = {name: value for name, value in TINY.items() if name != "alerts"}
    made = simulate(tmp_path / "objects", objects=30, **parameters)
    assert sum(made.objects.values()) == 30
    assert min(made.objects.values()) > 0


@pytest.mark.parametrize("few", [{"alerts": 1}, {"alerts": 60, "seed": (1 << 63) - 1}])
def test_few_alerts_and_large_seeds_make_an_archive(tmp_path: Path, few: dict[str, int]) -> None:
    made = simulate(tmp_path / "few", **TINY | few)
    # a supernova may make more alerts than one
    assert made.alerts >= few["alerts"]
    assert made.objects["snia"] > 0


def test_the_record_tells_hash_and_size_of_every_file(simulation: Simulation) -> None:
    record = json.loads((simulation.path / "simulation.json").read_text())
    found = contents(simulation.path)
    found.pop("simulation.json")
    assert {name: facts["sha256"] for name, facts in record["files"].items()} == found
    assert record["parameters"] == simulation.parameters
    assert {"numpy", "sncosmo", "ampel_spark"} <= record["software"].keys()


def test_a_second_call_finds_what_is_there(simulation: Simulation) -> None:
    before = {path: path.stat().st_mtime_ns for path in simulation.path.iterdir()}
    again = simulate(simulation.path, workers=3, **SMALL)
    assert simulation.fresh
    assert not again.fresh
    assert (again.alerts, again.nights) == (simulation.alerts, simulation.nights)
    assert {path: path.stat().st_mtime_ns for path in simulation.path.iterdir()} == before


def test_other_parameters_for_the_same_folder_are_an_error(simulation: Simulation) -> None:
    with pytest.raises(ConfigError, match=r"another simulation .*seed 5 instead of 6"):
        simulate(simulation.path, **SMALL | {"seed": 6})


def test_a_folder_with_something_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match=r"'thesis\.tex'"):
        simulate(tmp_path, **TINY)
    with pytest.raises(ConfigError, match="is a file"):
        simulate(tmp_path / "thesis.tex", **TINY)


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    made = simulate(tmp_path / "archive", **TINY)
    made.archives[0].write_bytes(b"short")
    with pytest.raises(ConfigError, match=made.archives[0].name):
        simulate(made.path, **TINY)


@pytest.mark.parametrize("step", ["objects", "nights"])
def test_what_was_cut_short_is_made_anew(step: str, tmp_path: Path) -> None:
    def stop(now: str, done: int, total: int) -> None:
        if now == step and done > total // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "cut", progress=stop, **TINY)
    assert (tmp_path / "cut").exists()
    again, whole = (simulate(tmp_path / name, **TINY) for name in ("cut", "whole"))
    assert again.fresh
    assert contents(again.path) == contents(whole.path)


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    made = simulate(tmp_path / "told", progress=lambda *step: steps.append(step), **TINY)
    for name, end in (("objects", sum(made.objects.values())), ("nights", len(made.nights))):
        done = [step[1] for step in steps if step[0] == name]
        assert done == sorted(done)
        assert done[-1] == end


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nights": 0}, "nights is 0"),
        ({"alerts": -5}, "alerts is -5"),
        ({"alerts": None}, "either"),
        ({"objects": 5}, "either"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"cutouts": "big"}, "choose one of none, small, real"),
        ({"first_night": "2024-13-01"}, "is no date"),
        ({"first_night": "2012-01-01"}, "outside 2018 to 2031"),
    ],
)
def test_a_parameter_that_cannot_be_right_is_an_error(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate(tmp_path / "never", **TINY | change)
    assert not (tmp_path / "never").exists()


def test_missing_models_are_told_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lightcurves, "SALT", ("salt3", "none such"))
    lightcurves.supernova_model.cache_clear()
    with pytest.raises(SetupError, match="SNCOSMO_DATA_DIR"):
        simulate(tmp_path / "never", **TINY)


def test_the_quickstart_is_a_valid_set_of_parameters() -> None:
    assert 5_000 <= QUICKSTART["alerts"] <= 10_000
    assert 60 <= QUICKSTART["nights"] <= 90
