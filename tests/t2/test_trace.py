"""The trace changes with all that decides a result, and with nothing else."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.errors import UnitError
from ampel_spark.t2 import Unit
from ampel_spark.t2.registry import build, find_unit
from ampel_spark.t2.trace import Trace, trace_of
from ampel_spark.trace import code_of, digest_of

UNIT = '''
from __future__ import annotations
from pathlib import Path
from typing import TYPE_CHECKING
from ampel_spark.t2 import Column
from traced_base import Base
import traced_package.inner
from traced_package import handed_on
if TYPE_CHECKING:
    import traced_unrelated

class Own(Base):
    """Docstring."""
    cut: float = 1.0
    "A parameter."
    table: Path | None = None
    columns = (Column("n", "double", "", "what"),)
    def files(self): return [Path(__file__).parent / "model"]
    def process(self, light_curve):
        # a comment
        return {"n": self.cut * handed_on()}
'''
FILES = {
    "own.py": UNIT,
    "traced_base.py": "from ampel_spark.t2 import Unit\nclass Base(Unit):\n    x: int = 1\n",
    "traced_package/__init__.py": (
        "from traced_package.defining import handed_on\nfrom . import aside\n"
    ),
    "traced_package/inner.py": "K = 1\n",
    "traced_package/defining.py": (
        "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import traced_late\n"
        "from .deeper import L\ndef handed_on(): return L\n"
    ),
    "traced_late.py": "Z = 1\n",
    "traced_package/deeper.py": "L = 1\n",
    "traced_package/aside.py": "M = 1\n",
    "traced_unrelated.py": "N = 1\n",
    "model/a.dat": "1 2 3\n",
    "model/b.dat": "4 5 6\n",
    "table.csv": "ra,dec\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def traced(folder: Path, spec: str = "own.py:Own", **config: Any) -> Trace:
    return trace_of(build(spec, config, folder), spec)


def changed(folder: Path, name: str, old: str, new: str) -> bool:
    """Whether a change in a file changes the trace."""
    before = traced(folder, table="table.csv").trace_id
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    return traced(folder, table="table.csv").trace_id != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("own.py", "self.cut *", "2 * self.cut *"),
        ("own.py", "cut: float = 1.0", "cut: float = 1.5"),
        ("own.py", '"double"', '"int"'),
        ("traced_base.py", "x: int = 1", "x: int = 2"),
        ("traced_package/inner.py", "K = 1", "K = 2"),
        ("traced_package/defining.py", "return L", "return -L"),
        ("traced_package/deeper.py", "L = 1", "L = 2"),
        ("traced_late.py", "Z = 1", "Z = 2"),
        ("model/a.dat", "1", "2"),
        ("table.csv", "ra", "RA"),
    ],
)
def test_a_change_in_what_decides_the_result_is_another_trace(
    folder: Path, name: str, old: str, new: str
) -> None:
    assert changed(folder, name, old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("own.py", "# a comment", "# another comment"),
        ("own.py", '"""Docstring."""', '"""Another."""'),
        ("own.py", '"A parameter."', '"Another text."'),
        ("own.py", "        return", "\n\n        return"),
        ("traced_package/aside.py", "M = 1", "M = 2"),  # imported by the package, used by nobody
        ("traced_unrelated.py", "N = 1", "N = 2"),  # imported for types alone
    ],
)
def test_a_change_in_anything_else_is_not(folder: Path, name: str, old: str, new: str) -> None:
    assert not changed(folder, name, old, new)


def test_a_change_in_the_framework_s_base_class_is_another_trace(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = build("own.py:Own", None, folder)
    before = trace_of(unit, "own")
    loader: Any = sys.modules["ampel_spark.t2.unit"].__spec__.loader  # type: ignore[union-attr]
    source = loader.get_source("ampel_spark.t2.unit")
    monkeypatch.setattr(
        loader, "get_source", lambda name: source.replace("EXCEPTION = -4", "EXCEPTION = -5")
    )
    assert "ampel_spark.t2.unit" in before.content["code"]
    assert trace_of(unit, "own").trace_id != before.trace_id


def test_parameters_count_with_their_defaults(folder: Path) -> None:
    assert traced(folder).trace_id == traced(folder, cut=1, x=1).trace_id
    assert traced(folder).trace_id != traced(folder, cut=1.1).trace_id
    assert traced(folder).content["parameters"] == {"cut": 1.0, "table": None, "x": 1}


def test_it_does_not_matter_where_files_and_units_lie(folder: Path, tmp_path: Path) -> None:
    before = traced(folder, table="table.csv")
    (tmp_path / "elsewhere").mkdir()
    (folder / "table.csv").rename(tmp_path / "elsewhere" / "renamed.csv")
    assert traced(folder, table="elsewhere/renamed.csv").trace_id == before.trace_id
    assert traced(folder, str(folder / "own.py:Own")).trace_id == traced(folder).trace_id


def test_a_folder_counts_with_the_names_in_it(folder: Path) -> None:
    before = digest_of(folder / "model")
    (folder / "model" / "a.dat").rename(folder / "model" / "c.dat")
    assert digest_of(folder / "model") != before


def test_the_record_tells_what_went_into_it(folder: Path) -> None:
    content = traced(folder, table="table.csv").content
    assert content["class"] == "Own"
    assert list(content["code"]) == [
        "ampel_spark.lightcurve", "ampel_spark.t2.unit", "own", "traced_base", "traced_late",
        "traced_package.deeper", "traced_package.defining", "traced_package.inner",
    ]  # fmt: skip
    assert [file["name"] for file in content["files"]] == ["model"]
    assert content["parameters"]["table"] == {"sha256": digest_of(folder / "table.csv")}
    assert content["libraries"] == {}


def test_versions_of_declared_libraries_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from ampel_spark.t2 import Unit\n"
        "class Lib(Unit):\n  libraries = ('numpy',)\n  def process(self, lc): return {}\n"
    )
    (folder / "lib.py").write_text(text)
    before = traced(folder, "lib.py:Lib")
    assert before.content["libraries"] == {"numpy": importlib.import_module("numpy").__version__}
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    assert traced(folder, "lib.py:Lib").trace_id != before.trace_id
    monkeypatch.undo()
    (folder / "lib.py").write_text(text.replace("numpy", "no-such-library"))
    with pytest.raises(UnitError, match="'no-such-library', which is not installed"):
        traced(folder, "lib.py:Lib")


def test_a_class_without_a_file_cannot_be_traced() -> None:
    namespace: dict[str, Any] = {"__name__": "no_file"}
    exec("from ampel_spark.t2 import Unit\nclass Own(Unit): pass\n", namespace)
    with pytest.raises(UnitError, match="module 'no_file' has no file"):
        code_of(namespace["Own"], Unit)


def test_code_without_source_cannot_be_traced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = find_unit("own.py:Own", folder)
    loader: Any = sys.modules["traced_package.deeper"].__spec__.loader  # type: ignore[union-attr]
    monkeypatch.setattr(loader, "get_source", lambda name: None)
    with pytest.raises(UnitError, match=r"'traced_package.deeper' .* has no source in Python"):
        code_of(cls, Unit)


def test_a_file_that_is_missing_cannot_be_traced(folder: Path) -> None:
    with pytest.raises(UnitError, match=r"cannot read .*gone\.csv"):
        traced(folder, table="gone.csv")


def test_a_parameter_without_a_canonical_form_is_named(folder: Path) -> None:
    (folder / "odd.py").write_text(
        "from typing import Any\nfrom ampel_spark.t2 import Unit\n"
        "class Odd(Unit):\n  what: Any = None\n  def process(self, lc): return {}\n"
    )
    with pytest.raises(UnitError, match=r"odd\.py:Odd: what\.a is a complex"):
        traced(folder, "odd.py:Odd", what={"a": 1j})


def test_the_fit_is_traced_to_its_engine_its_catalogue_and_its_model() -> None:
    from ampel_spark.t2.units.salt_fit import SaltFit

    code = code_of(SaltFit, Unit)
    assert {
        "ampel_spark.sky.catalogs",
        "ampel_spark.t2.unit",
        "ampel_spark.t2.fits.fit_lc",
        "ampel_spark.t2.fits.models",
        "ampel_spark.t2.units.salt_fit",
    } <= set(code)
    assert not any(name.partition(".")[0] != "ampel_spark" for name in code)
    # the lake's own code has no part in what a unit says
    assert not any(name.startswith("ampel_spark.lake") for name in code)
    trace = trace_of(SaltFit.model_validate({"redshift": 0.1}), "salt_fit")
    assert trace.content["files"][0]["name"] == "salt3-f22"
    assert len(trace.trace_id) == 32


def test_a_subclass_may_use_what_its_base_leaves_out_of_use() -> None:
    from ampel_spark.t2.units.salt_fit import SaltFit

    class Own(SaltFit):
        pass

    base, own = (trace_of(cls.model_validate({"redshift": 0.1}), "fit") for cls in (SaltFit, Own))
    assert "ampel_spark.salt.twin.fit" not in base.content["code"]
    assert {"ampel_spark.salt.twin.fit", "ampel_spark.t2.fits.fit_lc"} <= own.content["code"].keys()


def test_a_unit_keeps_its_trace_from_process_to_process(folder: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from ampel_spark.t2.registry import build;"
        "from ampel_spark.t2.trace import trace_of;"
        "print(trace_of(build('own.py:Own', {}, Path(sys.argv[1])), 'x').trace_id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == traced(folder).trace_id


def test_units_are_no_part_of_their_own_base() -> None:
    assert "ampel_spark.t2.units.salt_fit" not in code_of(Unit, Unit)
