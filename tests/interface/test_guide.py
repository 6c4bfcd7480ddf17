"""The guide to Python does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from ampel_spark.interface import running
from ampel_spark.interface.lake_view import open_lake
from ampel_spark.interface.run_view import RunView
from tests.conftest import PROJECT

GUIDE = PROJECT / "docs" / "python.md"


def test_every_block_runs(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ampel_spark.job.configuration.load import load_job

    def run(job: str, *, lake: str, set: dict[str, Any], calibration: str, **_: Any) -> RunView:  # noqa: A002
        # Spark would take a minute: what it is given is checked, and a run that is there returned
        sets = [f"{key}={value}" for key, value in set.items()]
        assert load_job(PROJECT / job, sets, calibration=calibration).name == "quickstart"
        return open_lake(lake).run()

    monkeypatch.setattr(running, "run", run)
    monkeypatch.chdir(examples)
    mpl.use("agg")
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    assert len(blocks) > 8
    for block in blocks:
        exec(compile(block, "python.md", "exec"), namespace)
    namespace["axes"].figure.clear()
    import matplotlib.pyplot as plt

    plt.close("all")
