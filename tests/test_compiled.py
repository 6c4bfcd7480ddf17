"""Compiled functions are kept for all processes, until anything that went into them changes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

from ampel_spark import compiled as module
from ampel_spark.compiled import compiled, entry_point

FILES = {
    "frozen/__init__.py": "",
    "frozen/constants.py": "FACTOR = 2.0\n",
    "frozen/step.py": (
        "from ampel_spark.compiled import compiled\nfrom frozen.constants import FACTOR\n"
        "@compiled(merged=True)\ndef step(x):\n    return FACTOR * x\n"
    ),
    "frozen/kernel.py": (
        "from ampel_spark.compiled import entry_point\nfrom frozen.step import step\n"
        "@entry_point(allocates=False)\ndef kernel(x):\n    return step(x) + 1.0\n"
    ),
}
CALL = (
    "from frozen.kernel import kernel; v = kernel(3.0);"
    "print(v, sum(kernel.stats.cache_hits.values()))"
)


def called(folder: Path) -> tuple[float, int]:
    """Call the kernel in a process of its own; return its value and whether it was there."""
    done = subprocess.run(
        [sys.executable, "-c", CALL], capture_output=True, text=True, cwd=folder,
        env=os.environ | {"AMPEL_SPARK_KERNEL_CACHE": str(folder / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    value, hits = done.stdout.split()
    return float(value), int(hits)


def test_a_kernel_is_compiled_once_and_anew_when_a_constant_elsewhere_changes(
    tmp_path: Path,
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert called(tmp_path) == (7.0, 0)
    assert called(tmp_path) == (7.0, 1)
    # of the same length and age, so that a date of change would not show it
    file = tmp_path / "frozen" / "constants.py"
    was = file.stat()
    file.write_text("FACTOR = 4.0\n")
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    for cached in (tmp_path / "frozen").glob("__pycache__/constants*"):
        cached.unlink()
    assert called(tmp_path) == (13.0, 0)


@pytest.fixture(params=["register_pass is gone", "an option is gone"])
def other_numba(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let numba lack what merging functions relies on."""
    if request.param == "register_pass is gone":
        monkeypatch.delattr("numba.core.compiler_machinery.register_pass")
    else:
        options: Any = numba.core.cpu.CPUTargetOptions
        owner = next(c for c in options.__mro__ if "no_cpython_wrapper" in vars(c))
        monkeypatch.delattr(owner, "no_cpython_wrapper")
    module._step_compiler.cache_clear()
    yield
    monkeypatch.undo()
    module._step_compiler.cache_clear()


def twice_and_one(decorator: Any) -> Any:
    @decorator(merged=True)
    def twice(x: float) -> float:
        return 2.0 * x

    @entry_point(allocates=False)
    def twice_and_more(x: float) -> float:
        value: float = twice(x) + 1.0
        return value

    return twice_and_more


def test_a_merged_function_is_no_machine_code_by_itself() -> None:
    kernel = twice_and_one(compiled)
    assert kernel(3.0) == 7.0
    assert module._step_compiler() is not None
    assert type(kernel._cache).__name__ == "FunctionCache"


def test_where_numba_is_made_otherwise_functions_are_compiled_plainly_and_not_kept(
    other_numba: None,
) -> None:
    assert module._step_compiler() is None
    kernel = twice_and_one(compiled)
    assert kernel(3.0) == 7.0
    assert type(kernel._cache).__name__ == "NullCache"


def test_division_by_zero_is_that_of_ieee() -> None:
    @entry_point
    def inverse(x: float) -> float:
        return 1.0 / x

    assert inverse(0.0) == float("inf")
    assert isinstance(inverse, numba.core.registry.CPUDispatcher)
