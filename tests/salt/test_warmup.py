"""Kernels are made ready once, for fits as they are, and anew where their folder is broken."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from ampel_spark.salt import SaltFitter, warm, warmup
from tests.salt.light_curves import pack, simulate, truth


def test_a_fit_finds_the_kernels_that_warming_made(fitter: SaltFitter) -> None:
    from ampel_spark.kernels import kernel_folder
    from ampel_spark.salt import batch

    assert warm() == kernel_folder("ampel_spark.salt.batch")
    lights = simulate(1, 51)
    result = fitter.fit(pack(lights), z=truth(lights, "z"))
    fitter.predict(pack(lights), result.parameters)
    # One set of types each: nothing was compiled for the fit itself.
    assert len(batch.fit_range.signatures) == 1
    assert len(batch.predict_range.signatures) == 1
    assert any(kernel_folder("ampel_spark.salt.batch").glob("ready-*"))


def test_broken_folder_is_emptied_and_filled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels = tmp_path / "salt_0"
    kernels.mkdir()
    (kernels / "fit_range.nbi").write_text("garbage")
    calls = []

    def call() -> None:
        calls.append(kernels.exists())
        if kernels.exists():
            raise EOFError("ran out of input")

    monkeypatch.setattr(warmup, "_call", call)
    with caplog.at_level(logging.WARNING):
        warmup._load(tmp_path)
    assert calls == [True, False]
    assert "cannot be used" in caplog.text


def test_one_compiles_while_others_wait(tmp_path: Path) -> None:
    order = []

    def work(name: str) -> None:
        with warmup._locked(tmp_path):
            order.append(name)
            time.sleep(0.05)
            order.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order in (list("aabb"), list("bbaa"))
