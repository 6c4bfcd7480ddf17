"""The unit that fits spectral templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sncosmo

from ampel_spark.errors import ConfigError
from ampel_spark.t2 import LightCurve, LightCurveBatch, Refusal
from ampel_spark.t2.fits import models
from ampel_spark.t2.registry import build
from ampel_spark.t2.trace import trace_of
from ampel_spark.t2.units.template_fit import NO_SIGNAL, TOO_FEW_POINTS, TemplateFit
from tests.templates.test_fitter import PHASE, SOURCES, WAVE

T0 = 2459000.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three templates in files."""
    folder = tmp_path_factory.mktemp("templates")
    for source in SOURCES:
        phase = PHASE["fast" if source.name == "fast" else "slow"]
        p, w = (grid.ravel() for grid in np.meshgrid(phase, WAVE, indexing="ij"))
        flux = source._model_flux(phase, WAVE).ravel()
        np.savetxt(folder / f"{source.name}.dat", np.column_stack([p, w, flux]))
    return folder


def built(folder: Path, **config: Any) -> TemplateFit:
    unit = build("template_fit", {"template_files": ["*.dat"], "redshift": 0.05} | config, folder)
    assert isinstance(unit, TemplateFit)
    return unit


def seen(source: sncosmo.Source, seed: int, ebv: float = 0.1, n: int = 24) -> LightCurve:
    model = sncosmo.Model(source, [sncosmo.F99Dust()], ["mw"], ["obs"])
    model.set(z=0.05, t0=T0, amplitude=1.3, mwebv=ebv)
    rng = np.random.default_rng(seed)
    span = (-4.0, 20.0) if source.name == "fast" else (-15.0, 60.0)
    days, band = np.sort(rng.uniform(*span, n)) + T0, np.tile(["ztfg", "ztfr"], n)[:n]
    curves = [models.bandpass(b)[0] for b in band]
    flux = model.bandflux(curves, days, 25.0, "ab")
    error = np.full(n, flux.max() / 40.0)
    return LightCurve.of(
        jd=days, band=band, flux=flux + error * rng.normal(size=n), fluxerr=error, name=source.name
    )


# A minute of fits; tests/templates holds the engine to sncosmo in seconds.
@pytest.mark.long
def test_the_right_template_is_the_most_likely(folder: Path) -> None:
    unit = built(folder, dust={"ebv": 0.1})
    for seed, source in enumerate(SOURCES):
        row = unit.process(seen(source, seed))
        assert row["template"] == source.name
        assert row["posterior"] > 0.99
        assert abs(row["t0"] - T0) < 4.0 * row["t0_err"]
        assert abs(row["amplitude"] - 1.3) < 4.0 * row["amplitude_err"]
        assert (row["n_points"], row["ndof"], row["mwebv"]) == (24, 22, 0.1)
        assert sorted(row["templates"]) == ["fast", "slow", "slow2"]
        k = row["templates"].index(row["template"])
        assert row["chisqs"][k] == row["chisq"]
        assert row["bics"][k] == pytest.approx(row["chisq"] + 2.0 * np.log(24))
        assert row["log_evidences"][k] == max(row["log_evidences"]) == row["log_evidence"]
        assert sum(row["posteriors"]) == pytest.approx(1.0)
    free = built(folder, dust={"ebv": 0.1}, redshift={"fit": [0.01, 0.15]}).process(
        seen(SOURCES[0], 0)
    )
    assert (free["template"], free["ndof"], free["z_source"]) == ("slow", 21, "fit")
    assert abs(free["z"] - 0.05) < 4.0 * free["z_err"]


def test_a_batch_gives_each_light_curve_what_it_gets_alone(folder: Path) -> None:
    unit = built(folder)
    faint = seen(SOURCES[0], 5)
    faint = LightCurve.of(jd=faint.jd, band=faint.band, flux=faint.flux, fluxerr=faint.flux.max())
    curves = [seen(SOURCES[0], 3, 0.0), seen(SOURCES[0], 4, n=2), seen(SOURCES[2], 5, 0.0), faint]
    columns = unit.process_batch(LightCurveBatch.of(curves))
    assert np.asarray(columns["status"]).tolist() == [0, TOO_FEW_POINTS, 0, NO_SIGNAL]
    for i, curve in enumerate(curves):
        if columns["status"][i]:
            with pytest.raises(Refusal, match=columns["message"][i].as_py()):
                unit.process(curve)
            continue
        alone = dict(unit.process(curve))
        for name in (column.name for column in unit.output_columns()):
            assert columns[name][i].as_py() == alone[name], name


def test_a_changed_file_is_another_trace_and_other_numbers(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    unit, curve = built(tmp_path), seen(SOURCES[0], 7)
    before, trace = unit.process(curve), trace_of(unit, "template_fit").trace_id
    p, w, flux = np.loadtxt(tmp_path / "slow.dat").T
    np.savetxt(tmp_path / "slow.dat", np.column_stack([p, w, 2.0 * flux]))
    assert trace_of(unit, "template_fit").trace_id != trace
    again = unit.process(curve)
    assert again["amplitude"] == pytest.approx(0.5 * before["amplitude"], rel=1e-6)
    assert again["chisq"] == pytest.approx(before["chisq"], rel=1e-6)


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        built(folder, template_files=["nothing.dat"]).files()
    with pytest.raises(ConfigError, match="name at least one template"):
        built(folder, template_files=[]).files()
    with pytest.raises(ConfigError, match=r"no model 'nugent-sn2q/1\.2'; did you mean"):
        built(folder, templates=["nugent-sn2q/1.2"]).files()
    with pytest.raises(ConfigError, match=r"no time series in .* is called 'unheard-of-"):
        built(folder, templates=["unheard-of-*"]).files()
    with pytest.raises(ConfigError, match="not a TimeSeriesSource"):
        built(folder, templates=["salt3/2.0"]).files()
    with pytest.raises(ConfigError, match="no priors"):
        built(folder, redshift={"value": 0.05, "sigma": 0.01}).files()


@pytest.mark.real_data
def test_templates_of_sncosmo_are_found_by_a_pattern(
    packed_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SNCOSMO_DATA_DIR", str(packed_data / "sncosmo_data"))
    unit = built(tmp_path, template_files=[], templates=["snana-*", "hsiao/3.0"])
    row = unit.process(_hsiao())
    assert row["template"] == "hsiao/3.0"
    assert len(row["templates"]) > 5
    assert abs(row["t0"] - T0) < 4.0 * row["t0_err"]


def _hsiao() -> LightCurve:
    model = sncosmo.Model(models.source("hsiao/3.0"))
    model.set(z=0.05, t0=T0, amplitude=1e-8)
    days, band = np.linspace(T0 - 10.0, T0 + 40.0, 30), np.tile(["ztfg", "ztfr"], 15)
    flux = model.bandflux([models.bandpass(b)[0] for b in band], days, 25.0, "ab")
    return LightCurve.of(jd=days, band=band, flux=flux, fluxerr=0.02 * flux.max())
