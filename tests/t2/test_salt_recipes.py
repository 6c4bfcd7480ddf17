"""Recipes of the field, the range in wavelength that fits take, and retrained models by folder."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sncosmo

from ampel_spark.errors import AmpelSparkError, ConfigError
from ampel_spark.lightcurve import LightCurveBatch
from ampel_spark.t2.fits import models
from ampel_spark.t2.fits.info import read_info
from ampel_spark.t2.fits.points import Choice, choose
from ampel_spark.t2.fits.recipes import read_recipe, recipe_names
from ampel_spark.t2.registry import build
from ampel_spark.t2.trace import trace_of
from ampel_spark.t2.units.salt_fit import SaltFit, model_of
from tests.t2.supernovae import injected, truth


def built(base: Path = Path(), **config: Any) -> SaltFit:
    unit = build("salt_fit", {"redshift": 0.06, "model_covariance": False} | config, base)
    assert isinstance(unit, SaltFit)
    return unit


@pytest.mark.parametrize("name", ["jla", "ztf_dr1", "pantheon_plus", "dovekie"])
def test_a_recipe_is_a_set_of_parameters_with_its_sources(name: str) -> None:
    recipe = read_recipe(name)
    assert name in recipe_names()
    assert recipe.cite
    assert recipe.selection
    unit = SaltFit.model_validate({"recipe": name, "redshift": 0.06, "dust": {"ebv": 0.02}})
    spelt = SaltFit.model_validate(
        recipe.parameters | {"redshift": 0.06, "dust": recipe.parameters["dust"] | {"ebv": 0.02}}
    )
    assert spelt.model_dump(exclude={"recipe"}) == unit.model_dump(exclude={"recipe"})
    assert unit.dust is not None
    assert unit.dust.law == recipe.parameters["dust"]["law"]


def test_parameters_of_the_job_come_on_top_of_a_recipe() -> None:
    unit = built(recipe="jla", phase_range=[-10, 40], bounds={"c": [-1, 1]}, dust=None)
    assert unit.phase_range == (-10.0, 40.0)
    assert unit.bounds == {"x1": (-20.0, 20.0), "c": (-1.0, 1.0)}
    assert unit.dust is None
    assert unit.model == "salt2/2.4"


def test_a_recipe_counts_by_its_parameters_alone() -> None:
    recipe = read_recipe("ztf_dr1").parameters
    spelt = recipe | {"model": "salt3/2.0", "dust": {"law": "CCM89", "ebv": 0.1}}
    named = {"recipe": "ztf_dr1", "model": "salt3/2.0", "dust": {"ebv": 0.1}}
    named["model_covariance"] = True
    assert trace_of(built(**spelt), "salt_fit") == trace_of(built(**named), "salt_fit")


def test_an_unknown_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'jlaa'.*'jla'"):
        built(recipe="jlaa")


def test_models_have_the_range_that_they_are_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("salt2/2.4", "salt3/2.0", "salt3-nir/1.0"):
        (tmp_path / models.MODELS[name][0]).mkdir(parents=True)
    nir = tmp_path / models.MODELS["salt3-nir/1.0"][0] / "SALT3.INFO"
    nir.write_text("RESTLAMBDA_RANGE: 2800 17000\n")
    monkeypatch.setenv("SNCOSMO_DATA_DIR", str(tmp_path))
    assert models.wave_range("salt3-nir/1.0") == (2800.0, 17000.0)
    assert models.wave_range("salt2/2.4") == (3000.0, 7000.0)
    assert models.wave_range("salt3/2.0") == (3000.0, 8700.0)
    assert models.wave_range("hsiao/3.0") is None


@pytest.mark.parametrize(
    ("z", "kept"),
    # effective wavelengths of ZTF's bands are 4,747, 6,427 and 7,958 Å by sncosmo
    [(0.01, "ztfg ztfr"), (0.13, "ztfg ztfr"), (0.14, "ztfg ztfr ztfi"), (0.6, "ztfr ztfi")],
)
def test_bands_are_fitted_by_their_effective_wavelength_in_the_rest_frame(
    z: float, kept: str
) -> None:
    names = ("ztfg", "ztfr", "ztfi")
    waves = (4747.0, 6427.0, 7958.0)
    bands = {
        name: sncosmo.Bandpass([wave - 10, wave, wave + 10], [0.0, 1.0, 0.0], name=name)
        for name, wave in zip(names, waves, strict=True)
    }
    batch = LightCurveBatch.of([injected(truth(), band=np.resize(np.array(names, object), 30))])
    choice = Choice([0, 2], bands, (2000.0, 11000.0), (3000.0, 7000.0), {}, None, 0.0, 0.0)
    points = choose(batch, choice, np.array([z]), np.array([z]))
    assert [names[b] for b in np.unique(points.band)] == kept.split()
    left_out = [name for name in names if name not in kept.split()]
    assert points.notes.get(0, []) == [
        f"dropped 10 points in {name}: outside wave_range at z {z:g}" for name in left_out
    ]


def test_a_free_redshift_takes_bands_that_are_in_the_range_at_both_ends() -> None:
    bands = {"ztfr": sncosmo.Bandpass([6400, 6427, 6450], [0.0, 1.0, 0.0], name="ztfr")}
    batch = LightCurveBatch.of([injected(truth(), bands=["ztfr"])])
    choice = Choice([0, 2], bands, (2000.0, 11000.0), (3000.0, 6200.0), {}, None, 0.0, 0.0)
    for low, high, n in ((0.01, 0.2, 0), (0.05, 0.2, 30)):
        assert len(choose(batch, choice, np.array([low]), np.array([high])).time) == n


@pytest.mark.parametrize("engine", ["batch", "sncosmo"])
def test_both_engines_fit_what_is_in_the_range(engine: str) -> None:
    row = built(wave_range=[3000, 6200], redshift=0.01, engine=engine).process(injected(truth()))
    assert row["bands"] == ["ztfg"]
    everything = built(wave_range="all", engine=engine).process(injected(truth()))
    assert everything["bands"] == ["ztfg", "ztfr"]


def test_bands_are_taken_whatever_the_case_they_are_written_in() -> None:
    curve = injected(truth(), bands=["ZTFg", "ZTFr"])
    row = built(bands=["ZTFg", "ztfR"], zero_points={"ZTFg": 0.0}).process(curve)
    assert row["n_points"] == 30
    assert row["bands"] == ["ztfg", "ztfr"]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SALT3 with fewer wavelengths, as `plain`; as `red` with 5 % more flux beyond 5,500 Å."""
    root = tmp_path_factory.mktemp("trainings")
    (root / "plain").mkdir()
    for file in models.model_dir("salt3/2.0").glob("*.dat"):
        lines = file.read_text().splitlines(keepends=True)
        kept = lines
        if "color" not in file.name:
            waves = sorted({float(line.split()[1]) for line in lines})[::16]
            kept = [line for line in lines if float(line.split()[1]) in waves]
        (root / "plain" / file.name).write_text("".join(kept))
    shutil.copytree(root / "plain", root / "red")
    for name in ("salt3_template_0.dat", "salt3_template_1.dat"):
        phase, wave, flux = np.loadtxt(root / "red" / name).T
        flux = flux * np.where(wave > 5500.0, 1.05, 1.0)
        np.savetxt(root / "red" / name, np.transpose([phase, wave, flux]), fmt="%.2f %.2f %.8e")
    return root


@pytest.fixture
def retrained(trainings: Path, tmp_path: Path) -> Path:
    """A retraining that a test may change."""
    return Path(shutil.copytree(trainings / "red", tmp_path / "retrained"))


def test_a_retrained_model_is_called_by_its_folder_and_known_by_its_content(
    retrained: Path, trainings: Path, tmp_path: Path
) -> None:
    unit = built(tmp_path, model="salt3@retrained")
    row = unit.process(injected(truth(), noise=False))
    by_hand = models._Salt3(modeldir=str(retrained))
    assert row["model"].startswith("salt3@retrained#")
    at = np.array([0.0]), np.array([6000.0])
    assert model_of(row).source._model["M0"](*at) == by_hand._model["M0"](*at)
    # a red template that is brighter makes the supernova bluer
    plain = built(trainings, model="salt3@plain").process(injected(truth(), noise=False))
    assert row["c"] < plain["c"] - 0.03
    before = trace_of(unit, "salt_fit").trace_id
    shutil.move(retrained, tmp_path / "elsewhere")
    assert trace_of(built(tmp_path, model="salt3@elsewhere"), "salt_fit").trace_id == before
    (tmp_path / "elsewhere" / "SALT3.INFO").write_text("MAGSHIFT: ZTF r 0.01\n")
    assert trace_of(built(tmp_path, model="salt3@elsewhere"), "salt_fit").trace_id != before


def test_a_model_s_files_may_be_compressed_and_one_of_them_may_name_it(
    retrained: Path, tmp_path: Path
) -> None:
    curve = injected(truth())
    plain = built(tmp_path, model="salt3@retrained").process(curve)
    for file in retrained.glob("*.dat"):
        Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    packed = built(tmp_path, model="salt3@retrained/salt3_template_0.dat.gz").process(curve)
    assert packed["x1"] == plain["x1"]
    assert packed["model"] != plain["model"]


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_a_folder_without_a_model_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AmpelSparkError, match=f"{path}.*(salt2_template_0.dat|No such file)"):
        trace_of(built(tmp_path, model=f"salt2@{path}"), "salt_fit")


def test_shifts_of_a_training_apply_to_the_bands_they_name(retrained: Path, tmp_path: Path) -> None:
    (retrained / "SALT3.INFO").write_text(
        "RESTLAMBDA_RANGE: 3000. 8000.  # of filters\n"
        "MAGSHIFT: ZTF g 0.02\nMAGSHIFT: CFA3S,CFA3K CFA3K-B/q 0.5\nLAMSHIFT: ZTF ZTF-r 8\n"
    )
    curve = injected(truth())
    unit = built(tmp_path, model="salt3@retrained")
    assert unit.fitted_waves() == (3000.0, 8000.0)
    note = unit._shifts_note()
    assert note == "SALT3.INFO: of 3 calibration shifts: ztfg +0.02 mag, ztfr +8 Å"
    shifted = unit.process(curve)
    (retrained / "SALT3.INFO").write_text("RESTLAMBDA_RANGE: 3000. 8000.\n")
    same = {"model": "salt3@retrained", "zero_points": {"ztfg": -0.02}, "band_shifts": {"ztfr": 8}}
    by_hand = built(tmp_path, **same).process(curve)
    for name in ("t0", "x0", "x1", "c"):
        assert shifted[name] == by_hand[name]
    plain = built(tmp_path, model="salt3@retrained").process(curve)
    assert abs(shifted["c"] - plain["c"]) > 0.005


def test_a_band_may_have_another_name_in_the_info_file(tmp_path: Path) -> None:
    (tmp_path / "SALT2.INFO").write_text("MAGSHIFT: PS1 g 0.01\nWAVESHIFT: PS1 r -3\n")
    shifts = read_info(tmp_path).of_bands({"ztfg": "PS1/g", "ps1::r": "", "ztfr": ""})
    assert shifts == {"mag": {"ztfg": 0.01}, "wave": {"ps1::r": -3.0}}


@pytest.mark.parametrize("line", ["MAGSHIFT: SDSS g", "WAVESHIFT: SDSS g x", "COLOR_OFFSET: 0.1"])
def test_a_line_that_cannot_be_taken_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "SALT2.INFO").write_text(f"# first\n{line}\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_info(tmp_path)
