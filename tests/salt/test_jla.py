"""Supernovae of JLA have the parameters that snfit found (Betoule et al. 2014)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sncosmo

from ampel_spark.salt import FitOptions, LightCurves, SaltFitter

#: Largest redshift, files, and the parts within 0.1 and 1 sigma in t0, x1 and c
#: at least. Nearby bandpasses are sncosmo's, which are not all snfit's to the last digit.
SETS: dict[str, tuple[float, str, float, float]] = {
    "SDSS": (0.45, "lc-SDSS*.list", 0.9, 0.97),
    "nearby": (0.1, "lc-sn*.list", 0.65, 0.9),
}

#: Magnitude systems of SDSS, and of the nearby supernovae's instruments.
SYSTEMS = ("ab-b12", "jla1")
#: Columns of the release.
COLUMNS = ("tmax", "x1", "color", "dtmax", "dx1", "dcolor", "mb")


@pytest.mark.real_data
@pytest.mark.parametrize("name", SETS)
def test_published_parameters(
    name: str, packed_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # sncosmo asks for its folder once.
    data = packed_data / "sncosmo_data"
    monkeypatch.setattr(sncosmo.builtins.DATADIR, "_checked_rootdir", str(data))
    z_max, files, close, near = SETS[name]
    with open(packed_data / "jla" / "jla_lcparams.txt") as lines:
        header, *rows = (line.split() for line in lines)
    header = [word.lstrip("#") for word in header]
    release = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    lights: list[dict[str, Any]] = []
    published = []
    for path in sorted((packed_data / "jla" / "light_curves").glob(files))[::3]:
        data = sncosmo.read_lc(str(path), format="salt2", read_covmat=True)
        row = release[path.stem.removeprefix("lc-")]
        z = float(row["zhel"])
        band = np.array([str(b).lower() for b in data["Filter"]])
        rest = np.array([sncosmo.get_bandpass(b).wave_eff for b in band]) / (1.0 + z)
        light = {
            "time": data["Date"], "flux": data["Flux"], "fluxerr": data["Fluxerr"],
            "zp": data["ZP"],
            "zpsys": np.where([b.startswith("sdss") for b in band], *SYSTEMS),
            "band": np.where((rest > 3000.0) & (rest < 7000.0), band, "outside"),
        }  # fmt: skip
        if "Fluxcov" in data.colnames:
            light["fluxcov"] = data["Fluxcov"]
        lights.append(light)
        published.append([z, data.meta["MWEBV"], *(float(row[k]) for k in COLUMNS)])
    truth = np.array(published)
    bands = sorted({str(b) for light in lights for b in light["band"]} - {"outside"})
    fitter = SaltFitter(
        "salt2", bands, version="2.4", z_range=(0.0, z_max), systems=SYSTEMS, dust_law="CCM89"
    )
    options = FitOptions(
        model_covariance=True,
        covariance_tolerance=0.01,
        phase_range=(-15.0, 45.0),
        bounds={"x1": (-20.0, 20.0)},
    )
    curves = LightCurves.from_tables(lights, bands, SYSTEMS)
    result = fitter.fit(curves, z=truth[:, 0], mwebv=truth[:, 1], options=options)
    for k, parameter in enumerate(("t0", "x1", "c")):
        shift = np.abs(result.value(parameter) - truth[:, 2 + k]) / truth[:, 5 + k]
        assert np.mean(shift < 0.1) >= close, parameter
        assert np.mean(shift < 1.0) >= near, parameter
        ratio = np.nanmedian(result.error(parameter) / truth[:, 5 + k])
        assert ratio == pytest.approx(1.0, abs=0.01)
    # m_B differs from -2.5 log10(x0) by a constant.
    offset = -2.5 * np.log10(result.value("x0")) - truth[:, 8]
    assert 0.5 * np.diff(np.percentile(offset, [16, 84]))[0] < 0.01
