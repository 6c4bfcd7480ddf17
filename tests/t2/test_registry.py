"""Units found by name, built from a job's parameters, and what is said when that fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.classes import packed
from ampel_spark.errors import ConfigError, UnitError
from ampel_spark.shipping import unpacked
from ampel_spark.t2 import LightCurve, Unit
from ampel_spark.t2.registry import RESERVED, UNITS, build, describe, find_unit

NOTHING = LightCurve.of(jd=[])

COUNT = '''
from pathlib import Path

from pydantic import BaseModel

from ampel_spark.t2 import Column, Unit


class Cut(BaseModel, extra="forbid", use_attribute_docstrings=True):
    low: float = 0.0
    "Lowest."

    table: Path | None = None


class Count(Unit):
    """Count points.

    More of it.
    """

    step: int = 1
    "What a point counts."

    cuts: tuple[Cut, ...] = ()
    table: Path | None = None
    columns = (Column("n", "int", "", "points"),)

    def process(self, light_curve):
        return {"n": self.step * len(light_curve)}
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "count.py").write_text(COUNT)
    return tmp_path


def written(folder: Path, text: str, name: str = "own.py") -> Path:
    (folder / name).write_text("from ampel_spark.t2 import Column, Unit\n" + text)
    return folder


@pytest.mark.parametrize("name", sorted(UNITS))
def test_every_unit_of_the_package_is_found_and_described(name: str) -> None:
    cls = find_unit(name, Path())
    description = describe(cls)
    assert description.summary.endswith(".")
    assert all(p.description for p in description.parameters)
    assert all(c.description for c in description.columns)


def test_a_file_is_found_from_the_folder_of_the_job(folder: Path) -> None:
    unit = build("units/count.py:Count", {"step": 2}, folder)
    assert unit.process(LightCurve.of(jd=[1.0, 2.0])) == {"n": 4}


def test_a_module_is_found_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my_survey_units.py").write_text(COUNT)
    monkeypatch.syspath_prepend(folder)
    assert build("my_survey_units:Count", None, Path()).process(NOTHING) == {"n": 0}


def test_paths_among_the_parameters_start_from_the_folder_of_the_job(folder: Path) -> None:
    config = {"table": "a.csv", "cuts": [{"low": 1}, {"table": "/b.csv"}]}
    unit: Any = build("units/count.py:Count", config, folder)
    assert unit.table == folder / "a.csv"
    assert [cut.table for cut in unit.cuts] == [None, Path("/b.csv")]


def test_a_description_has_parameters_with_type_default_and_meaning(folder: Path) -> None:
    description = describe(find_unit("units/count.py:Count", folder))
    assert description.summary == "Count points."
    rows = {p.name: (p.type, p.default, p.description) for p in description.parameters}
    assert rows["step"] == ("int", "1", "What a point counts.")
    assert rows["cuts.low"] == ("float", "0.0", "Lowest.")
    assert rows["table"] == ("Path | None", "None", "")
    required = {p.name: p.default for p in describe(find_unit("salt_fit", folder)).parameters}
    assert required["redshift"] is None
    assert required["model"] == "'salt3/2.0'"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"stp": 1}, r"config\.stp = 1: no parameter 'stp'; did you mean 'step'\?"),
        ({"step": "two"}, r"config\.step = 'two': a whole number is needed"),
        (
            {"cuts": [{"lwo": 1}]},
            r"config\.cuts\.0\.lwo = 1: no parameter 'lwo'; did you mean 'low'\?",
        ),
        ({"cuts": [{"low": None}]}, r"config\.cuts\.0\.low = None: a number is needed"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value(
    folder: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build("units/count.py:Count", config, folder)


def test_all_faults_of_a_configuration_are_told_at_once(folder: Path) -> None:
    with pytest.raises(ConfigError) as told:
        build("salt_fit", {"min_points": -1, "colums": []}, folder)
    assert len(str(told.value).splitlines()) == 3
    assert "config.redshift is required: A number, or where" in str(told.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("salt_fitt", "no unit 'salt_fitt'; did you mean 'salt_fit'"),
        ("no_such_module:Unit", "there is no module 'no_such_module'"),
        ("ampel_spark.no_such:Unit", r"there is no module 'ampel_spark\.no_such'"),
        ("json:JSONDecoder", "JSONDecoder is no unit"),
        ("json:loads", "loads is no unit"),
        ("ampel_spark.t2:Unit", "Unit is no unit"),
        ("units/none.py:Count", "cannot read .*none.py: No such file"),
        ("units/count.py:Cuont", "no class 'Cuont' there; did you mean 'Count'"),
        ("units/count.py", "own is path/file.py:Class or module:Class"),
    ],
)
def test_what_is_no_unit_is_refused(folder: Path, spec: str, message: str) -> None:
    with pytest.raises(UnitError, match=message):
        find_unit(spec, folder)


def test_an_error_in_a_unit_s_file_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import json\n\nx = json.nope\n")
    with pytest.raises(UnitError, match=r"own\.py fails on import: AttributeError: .*own\.py:3\)"):
        find_unit("own.py:Own", tmp_path)
    (tmp_path / "own.py").write_text("class Own(\n")
    with pytest.raises(UnitError, match=r"SyntaxError"):
        find_unit("own.py:Own", tmp_path)
    (tmp_path / "own.py").write_text("import not_installed_here\n")
    with pytest.raises(UnitError, match=r"No module named 'not_installed_here'"):
        find_unit("own.py:Own", tmp_path)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        *((f'Column("{name}", "int", "", "")', "every unit's table has") for name in RESERVED),
        ('Column("Status", "int", "", "")', "every unit's table has"),
        ('Column("n", "integer", "", "")', "has the type 'integer'"),
        ('Column("n m", "int", "", "")', "use letters, digits and _"),
        ('Column("n", "int", "", ""), Column("N", "int", "", "")', "is there twice"),
    ],
)
def test_columns_that_cannot_make_a_table_are_refused(
    tmp_path: Path, column: str, message: str
) -> None:
    text = f"class Own(Unit):\n  columns = ({column},)\n  def process(self, lc): return {{}}\n"
    with pytest.raises(UnitError, match=message):
        find_unit("own.py:Own", written(tmp_path, text))


def test_columns_that_follow_from_parameters_are_checked_too(tmp_path: Path) -> None:
    text = (
        "class Own(Unit):\n  what: str = 'n'\n"
        "  def output_columns(self): return (Column(self.what, 'int', '', ''),)\n"
        "  def process(self, lc): return {}\n"
    )
    build("own.py:Own", None, written(tmp_path, text))
    with pytest.raises(UnitError, match="column 'stock'"):
        build("own.py:Own", {"what": "stock"}, tmp_path)


def test_a_unit_must_compute_something(tmp_path: Path) -> None:
    with pytest.raises(UnitError, match="neither process nor process_batch"):
        find_unit("own.py:Own", written(tmp_path, "class Own(Unit): ...\n"))


def test_a_changed_file_is_loaded_anew_and_so_is_what_it_imports(tmp_path: Path) -> None:
    text = (
        "from other_module import K\n"
        "class Own(Unit):\n  columns = (Column('n', 'int', '', ''),)\n"
        "  def process(self, lc): return {'n': K}\n"
    )
    (tmp_path / "other_module.py").write_text("K = 1\n")
    first = find_unit("own.py:Own", written(tmp_path, text))
    assert find_unit("own.py:Own", tmp_path) is first
    (tmp_path / "other_module.py").write_text("K = 22\n")
    assert build("own.py:Own", None, tmp_path).process(NOTHING) == {"n": 22}
    written(tmp_path, text.replace("'n': K", "'n': -K"))
    assert build("own.py:Own", None, tmp_path).process(NOTHING) == {"n": -22}


def test_a_module_hidden_by_another_of_its_name_is_an_error(tmp_path: Path) -> None:
    text = (
        "from hidden_module import K\nclass Own(Unit):\n  def process(self, lc): return {'n': K}\n"
    )
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hidden_module.py").write_text(f"K = {number}\n")
        written(tmp_path / name, text)
    find_unit("one/own.py:Own", tmp_path)
    with pytest.raises(UnitError, match=r"two/hidden_module\.py is hidden by .*one/hidden"):
        find_unit("two/own.py:Own", tmp_path)


def test_a_packed_unit_runs_where_its_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("K = 7\n")
    text = (
        "import beside_it\n"
        "class Base(Unit):\n  step: int = 1\n"
        "class Own(Base):\n  def process(self, lc): return {'n': beside_it.K * self.step}\n"
    )
    unit: Unit = build("own.py:Own", {"step": 3}, written(tmp_path, text))
    data = packed(unit, Unit)
    (tmp_path / "unit.pickle").write_bytes(data)
    (tmp_path / "own.py").unlink()
    (tmp_path / "beside_it.py").unlink()
    code = (
        "import sys; from ampel_spark.shipping import unpacked;"
        "print(unpacked(open(sys.argv[1], 'rb').read()).process(None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "unit.pickle"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "{'n': 21}"
    assert unpacked(data).process(NOTHING) == {"n": 21}
