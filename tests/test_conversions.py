"""A light curve as astropy, sncosmo and pandas take it."""

import numpy as np
from astropy import units as u
from astropy.timeseries import TimeSeries
from sncosmo.photdata import photometric_data

from ampel_spark.lightcurve import POINT_FIELDS, LightCurve
from ampel_spark.t2.units.salt_fit import bandpass_of

CURVE = LightCurve.of(
    "ZTF20aaa", 42, jd=[2459000.75, 2459001.5, 2459003.0], kind=[0, 1, 2],
    mag=[18.0, np.nan, 19.0], magerr=0.1, limit_mag=[20.0, 19.5, np.nan], band="bessellr",
)  # fmt: skip


def test_a_table_has_units_and_words_and_sncosmo_takes_it() -> None:
    table = CURVE.to_table()
    assert table.colnames == [*POINT_FIELDS]
    assert table["kind"].tolist() == ["detection", "upper_limit", "forced"]
    assert (table["jd"].unit, table["magerr"].unit, table["ra"].unit) == (u.d, u.mag, u.deg)
    assert table.meta == {"name": "ZTF20aaa", "stock": 42, "state_id": ""}
    fluxes = CURVE.fluxes.to_table()
    fluxes["band"] = [bandpass_of("ztfr")] * 2
    data = photometric_data(fluxes)
    assert data.flux.tolist() == CURVE.fluxes.flux.tolist()
    assert data.time.tolist() == [2459000.75, 2459003.0]
    assert data.zp.tolist() == [25.0, 25.0]


def test_a_time_series_has_times_of_the_scale_that_is_named() -> None:
    series = CURVE.to_timeseries()
    assert isinstance(series, TimeSeries)
    assert series.time.jd.tolist() == CURVE.jd.tolist()
    assert series.time.scale == "utc"
    assert "jd" not in series.colnames
    assert CURVE.to_timeseries("tai").time.scale == "tai"


def test_a_frame_keeps_every_value() -> None:
    frame = CURVE.to_pandas()
    for name in POINT_FIELDS:
        if name != "kind":
            values = frame[name].to_numpy()
            assert np.array_equal(values, CURVE.points[name], equal_nan=values.dtype.kind == "f")
    assert frame.attrs["stock"] == 42
    assert len(LightCurve.of(jd=[]).to_table()) == 0
