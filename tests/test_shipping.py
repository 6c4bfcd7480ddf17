"""Units of one's own reach the workers whole, whatever their files are made of."""
# ruff: noqa: E501  (files are easier to read in few lines)

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from ampel_spark import shipping
from ampel_spark.classes import packed
from ampel_spark.errors import UnitError
from ampel_spark.shipping import unpacked
from ampel_spark.t2 import LightCurve, Unit
from ampel_spark.t2.registry import build
from ampel_spark.t2.trace import trace_of

HEAD = "from ampel_spark.t2 import Column, Unit\n"
UNIT = """
class Own(Unit):
    columns = (Column("n", "bigint", "", "a number"),)

    def process(self, light_curve):
        return {{"n": {0}}}
"""

#: By kind: the files, and what the unit makes 7 of.
KINDS: dict[str, tuple[dict[str, str], str]] = {
    "a cache at module level": (
        {"own.py": "import functools\n\n@functools.lru_cache\ndef seven():\n    return 7\n"},
        "seven()",
    ),
    "a dataclass and an enum": (
        {"own.py": "import dataclasses, enum\n\n@dataclasses.dataclass(frozen=True)\nclass Pair:\n    a: int = 3\n"
                   "    b: int = 4\n\nclass Kind(enum.Enum):\n    GOOD = 'good'\n"},
        "Pair().a + Pair().b if Kind('good') is Kind.GOOD else 0",
    ),
    "a module beside it": ({"own.py": "import beside_own\n", "beside_own.py": "K = 7\n"}, "beside_own.K"),
    "a relative import": (
        {"own.py": "from .near import K\nfrom . import near\n", "near.py": "from .nearer import K\n", "nearer.py": "K = 7\n"},
        "near.K",
    ),
    "a package beside it, with data": (
        {"own.py": "from helping.deep import number\n", "helping/__init__.py": "from helping import deep\n",
         "helping/deep.py": "from pathlib import Path\n\ndef number():\n    return int((Path(__file__).parent / 'seven.txt').read_text())\n",
         "helping/seven.txt": "7"},
        "number()",
    ),
    "a lock at module level": (
        {"own.py": "import threading\nLOCK = threading.Lock()\n"},
        "7 if LOCK.acquire(blocking=False) else 0",
    ),
    "a compiled function": (
        {"own.py": "import numba\n\n@numba.njit\ndef seven():\n    return 7\n"},
        "int(seven())",
    ),
}  # fmt: skip


def written(folder: Path, kind: str) -> Unit:
    files, what = KINDS[kind]
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        body = text + HEAD + UNIT.format(what) if name == "own.py" else text
        (folder / name).write_text(body)
    return build("own.py:Own", {}, folder)


def elsewhere(data: bytes, folder: Path) -> str:
    """Return what a unit makes in a process that has none of its files."""
    (folder / "unit.bin").write_bytes(data)
    code = (
        "import sys; from ampel_spark.shipping import unpacked;"
        "print(unpacked(open(sys.argv[1], 'rb').read()).process(None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder / "unit.bin"],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    return (done.stdout or done.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize("kind", [k for k in KINDS if "compiled" not in k])
def test_a_unit_reaches_a_process_without_its_files(kind: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    unit = written(tmp_path / "here", kind)
    assert unit.process(LightCurve.of(jd=[])) == {"n": 7}
    data = packed(unit, Unit)
    (tmp_path / "here").rename(tmp_path / "gone")
    assert elsewhere(data, tmp_path / "there") == "{'n': 7}"


def test_what_a_unit_imports_beside_it_is_in_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = trace_of(written(tmp_path, "a relative import"), "own")
    assert {"near", "nearer", "own"} <= {*before.content["code"]}
    nearer = tmp_path / "nearer.py"
    then = nearer.stat().st_mtime_ns
    nearer.write_text("K = 8\n")
    os.utime(nearer, ns=(then, then))  # an edit within the second that the file was made in
    again = build("own.py:Own", {}, tmp_path)
    assert again.process(LightCurve.of(jd=[])) == {"n": 8}
    assert trace_of(again, "own").trace_id != before.trace_id


def test_a_newer_file_takes_the_place_of_the_older_one_in_the_same_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = packed(written(tmp_path, "a module beside it"), Unit)
    (tmp_path / "beside_own.py").write_text("K = 70\n")
    two = packed(build("own.py:Own", {}, tmp_path), Unit)
    nothing = LightCurve.of(jd=[])
    for data, n in ((one, 7), (two, 70), (one, 7)):
        assert unpacked(data).process(nothing) == {"n": n}


def test_more_than_a_task_carries_is_refused_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = written(tmp_path, "a package beside it, with data")
    monkeypatch.setattr(shipping, "_MOST", 10)
    with pytest.raises(UnitError, match="name it by a parameter of type Path"):
        packed(unit, Unit)


@pytest.fixture
def compiler(tmp_path: Path) -> Callable[[Path, int], None]:
    """Compiles a module in C; skips where there is no compiler."""
    include, suffix = sysconfig.get_path("include"), sysconfig.get_config_var("EXT_SUFFIX")
    source = """
#include <Python.h>
static PyObject *number(PyObject *s, PyObject *a) {{ return PyLong_FromLong({0}); }}
static PyMethodDef all[] = {{{{"number", number, METH_NOARGS, ""}}, {{NULL, NULL, 0, NULL}}}};
static struct PyModuleDef def = {{PyModuleDef_HEAD_INIT, "compiled_own", "", -1, all}};
PyMODINIT_FUNC PyInit_compiled_own(void) {{ return PyModule_Create(&def); }}
"""

    def compiled(folder: Path, n: int) -> None:
        (tmp_path / "own.c").write_text(source.format(n))
        out = folder / f"compiled_own{suffix}"
        command = ["cc", "-shared", "-fPIC", f"-I{include}", "-o", out, tmp_path / "own.c"]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no C compiler, or no headers of Python")

    return compiled


def test_a_compiled_module_beside_a_unit_travels_and_is_traced(
    tmp_path: Path, compiler: Callable[[Path, int], None]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    compiler(here, 7)
    text = "import compiled_own\n" + HEAD + UNIT.format("compiled_own.number()")
    (here / "own.py").write_text(text)
    unit: Unit = build("own.py:Own", {}, here)
    trace = trace_of(unit, "own")
    assert "compiled_own" in trace.content["code"]
    data = packed(unit, Unit)
    here.rename(tmp_path / "gone")
    assert elsewhere(data, tmp_path) == "{'n': 7}"
