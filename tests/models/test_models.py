"""Models of a lake: trained by a file, kept with their origin, trained again to the same trees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ampel_spark.cli import main
from ampel_spark.errors import ConfigError, LakeError
from ampel_spark.lake.commits import insert
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.models import find, read_recipe, train_by, training_rows
from ampel_spark.t2 import LightCurve, LightCurveBatch
from ampel_spark.t2.runner import unit_table
from ampel_spark.t2.units.light_curve_features import LightCurveFeatures

RECIPE = """\
name: transients
labels: {file: truth.csv, column: kind, classes: {fast: sn_ia, slow: sn_ii}, redshift: z}
inputs: [peak_mag_*, width_*, "ztfg_ztfr_*", t_lc, z, abs_peak_mag_ztfg, rest_t_lc]
rounds: 6
sets: {young: t_lc < 30}
"""


def light_curve(number: int) -> LightCurve:
    """Return a bump, narrow for even numbers and wide for odd ones."""
    random = np.random.default_rng(number)
    jd = np.repeat(np.arange(0.0, 80.0, 3.0), 2) + random.uniform(0, 0.5)
    flux = 800.0 * np.exp(-0.5 * ((jd - 30) / (8 if number % 2 == 0 else 20)) ** 2)
    return LightCurve.of(
        f"SN{number}", number, jd=2459000.0 + jd, flux=flux + random.normal(0, 20, jd.size),
        fluxerr=20.0, band=["ztfg", "ztfr"] * (jd.size // 2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with features of 80 objects, in two commits, and their labels beside it."""
    root = tmp_path_factory.mktemp("models")
    unit = LightCurveFeatures(statistics=False)
    table = unit_table("light_curve_features", unit.output_columns())
    place = Lake(None, root / "lake")
    for numbers in (range(60), range(60, 80)):
        found: dict[str, Any] = dict(
            unit.process_batch(LightCurveBatch.of([light_curve(n) for n in numbers]))
        )
        found |= {
            "state_id": [f"{n * 7919 % 997:032x}" for n in numbers],
            "stock": [*numbers],
            "name": [f"SN{n}" for n in numbers],
            "trace_id": ["t"] * len(numbers),
            "input_hash": [""] * len(numbers),
        }
        schema = arrow_schema(table)
        columns = [
            pa.array(found[f.name], from_pandas=True).cast(f.type)
            if f.name in found
            else pa.nulls(len(numbers), f.type)
            for f in schema
        ]
        insert(place, table, pa.Table.from_arrays(columns, schema=schema), {})
    lines = [f"SN{n},{'slow' if n % 2 else 'fast'},{0.05 + n / 1000}" for n in range(80)]
    (root / "truth.csv").write_text("\n".join(["name,kind,z", *lines, "SN900,other,0.1"]))
    (root / "sn.yml").write_text(RECIPE)
    return root / "lake"


def test_a_model_is_trained_kept_and_trained_again(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str | Path) -> tuple[int, Any]:
        code = main([*map(str, words), "--lake", str(lake), "--format", "json"])
        return code, json.loads(capsys.readouterr().out)

    recipe = lake.parent / "sn.yml"
    code, row = command("train", recipe)
    assert code == 0
    assert (row["name"], row["version"], row["new"]) == ("transients", 1, True)
    assert row["table"].startswith("t2_light_curve_features ")
    assert row["balanced_accuracy"] > 0.9
    page = Path(row["page"]).read_text()
    for word in ("Efficiency and purity", "Importance of inputs", "sn_ia", "young", "rows_hash"):
        assert word in page
    assert json.loads(Path(row["file"]).read_text())["model_id"] == row["model_id"]
    # the same file and rows are the same model
    assert not command("train", recipe)[1]["new"]
    code, again = command("models", "reproduce", "transients")
    assert (code, again["same"], again["again"]) == (0, True, row["model_id"])
    # another seed makes no other trees here, other rounds do
    recipe.write_text(RECIPE.replace("rounds: 6", "rounds: 4"))
    assert command("train", recipe)[1]["version"] == 2
    recipe.write_text(RECIPE)
    rows = command("models", "diff", "transients", "1", "2")[1]
    changed = {r["what"]: (r["before"], r["after"]) for r in rows}
    assert changed["origin.recipe.rounds"] == (6, 4)
    assert "inputs" not in changed
    listed = command("models", "list")[1]
    assert [(m["name"], m["version"]) for m in listed] == [("transients", 1), ("transients", 2)]
    shown = command("models", "show", "transients", "--version", "1")[1]
    assert shown["origin"]["rows_hash"]
    assert shown["metrics"]["held_out"]["n"] + shown["rows"] == 80
    assert [r["states"] for r in shown["metrics"]["early"]["2222"]][:2] == ["3 days", "7 days"]
    truth = lake.parent / "truth.csv"
    text = truth.read_text()
    truth.write_text(text.replace("SN3,slow", "SN3,fast"))
    assert main(["models", "reproduce", "transients", "--lake", str(lake)]) == 2
    assert "is not what model 'transients' was trained with" in capsys.readouterr().err
    truth.write_text(text)


def test_an_earlier_version_of_the_table_gives_its_own_rows(lake: Path) -> None:
    recipe = read_recipe(lake.parent / "sn.yml")
    newest = training_rows(lake, recipe)
    first = training_rows(lake, recipe, newest.origin["version"] - 1)
    assert (len(first.states), len(newest.states)) == (60, 80)
    assert newest.states == sorted(newest.states)
    one, two = (train_by(recipe, training_rows(lake, recipe, 1)) for _ in range(2))
    assert one.model_id == two.model_id
    assert one.origin["rows_hash"] == two.origin["rows_hash"]


def test_patterns_of_inputs_leave_out_what_no_model_may_see(lake: Path) -> None:
    recipe = read_recipe(lake.parent / "sn.yml")
    rows = training_rows(lake, recipe.model_copy(update={"inputs": ("*",)}))
    assert not {"jd_det", "ndet", "n_ztfg", "det_bands", "name", "stock"} & {*rows.inputs}
    assert len(rows.inputs) > 30
    with pytest.raises(ConfigError, match=r"no feature of table .* fits 'widht_"):
        training_rows(lake, recipe.model_copy(update={"inputs": ("widht_ztfg",)}))
    dated = training_rows(lake, recipe.model_copy(update={"inputs": ("jd_det",)}))
    with pytest.raises(ConfigError, match="cannot have the input 'jd_det': its role is 'date'"):
        train_by(recipe, dated)


def test_what_cannot_be_trained_says_why(lake: Path) -> None:
    recipe = read_recipe(lake.parent / "sn.yml")

    def labelled(**changes: Any) -> Any:
        labels = recipe.labels.model_copy(update=changes)
        return recipe.model_copy(update={"labels": labels})

    with pytest.raises(ConfigError, match="has the label 'fats'; did you mean 'fast'"):
        training_rows(lake, labelled(classes={"fats": "sn_ia", "slow": "sn_ii"}))
    with pytest.raises(LakeError, match="no table"):
        training_rows(lake, recipe.model_copy(update={"table": "none"}))
    with pytest.raises(LakeError, match=r"has no model 'transient'; did you mean|has no model"):
        find(lake, "transient")
    (lake.parent / "bad.yml").write_text(RECIPE.replace("rounds: 6", "round: 6"))
    with pytest.raises(ConfigError, match="did you mean 'rounds'"):
        read_recipe(lake.parent / "bad.yml")
