"""Plots: what is drawn is what was given."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from matplotlib.figure import Figure

from ampel_spark.lightcurve import DETECTION, UPPER_LIMIT, LightCurve
from ampel_spark.t3 import figures, plots

Make = Callable[..., LightCurve]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn, to be asked for their lines."""
    kept: list[Figure] = []

    def draw(size: Any, plot: Any, form: str = "svg") -> bytes:
        def keeping(figure: Figure) -> None:
            plot(figure)
            kept.append(figure)

        return figures.draw(size, keeping, form)

    monkeypatch.setattr(plots, "draw", draw)
    return kept


def texts(svg: bytes) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}text")]


def markers(axes: Any) -> list[Any]:
    return [line for line in axes.lines if line.get_linestyle() == "None" and len(line.get_xdata())]


def test_every_point_is_drawn_once_in_its_band(curve: Make, drawn: list[Figure]) -> None:
    light_curve = curve()
    plots.light_curve(light_curve)
    p = light_curve.points
    found = {
        (round(float(x), 6), round(float(y), 6), line.get_marker())
        for line in markers(drawn[0].axes[0])
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    zero = p["jd"][p["kind"] == DETECTION].min()
    window = p["jd"] >= zero - 30
    expected = {
        (
            round(float(jd - zero), 6),
            round(float(limit if kind == UPPER_LIMIT else mag), 6),
            "v" if kind == UPPER_LIMIT else {"ztfg": "o", "ztfr": "s"}[band],
        )
        for jd, mag, limit, kind, band in zip(
            *(p[name][window] for name in ("jd", "mag", "limit_mag", "kind", "band")), strict=True
        )
    }
    assert found == expected


def test_negative_subtractions_are_open(curve: Make, drawn: list[Figure]) -> None:
    light_curve = curve()
    plots.light_curve(light_curve)
    hollow = [
        line for line in markers(drawn[0].axes[0])
        if line.get_markerfacecolor() == "none" and line.get_marker() != "v"
    ]  # fmt: skip
    assert (
        sum(len(line.get_xdata()) for line in hollow) == (light_curve.points["sign"] < 0).sum() == 1
    )


def test_residuals_are_data_less_model_in_units_of_the_error(
    curve: Make, model: Any, drawn: list[Figure]
) -> None:
    light_curve = curve()
    plots.light_curve(light_curve, model, t0=model.t0)
    p = light_curve.points
    inside = np.isfinite(p["flux"]) & (p["jd"] <= model.maxtime()) & (p["jd"] >= model.mintime())
    truth = np.array([model.bandflux(b, t, 25.0) for b, t in zip(p["band"], p["jd"], strict=True)])
    pull = ((p["flux"] - truth) / p["fluxerr"])[inside]
    got = np.concatenate([line.get_ydata() for line in markers(drawn[0].axes[1])])
    np.testing.assert_allclose(np.sort(got), np.sort(np.clip(pull, -5.5, 5.5)), atol=1e-9)
    assert np.std(pull[pull > -5.5]) < 2


def test_the_model_is_drawn_in_the_bands_of_the_fit(
    curve: Make, model: Any, drawn: list[Figure]
) -> None:
    plots.light_curve(curve(), model, t0=model.t0, bands=["ztfg"])
    lines = [line for line in drawn[0].axes[0].lines if len(line.get_xdata()) == 120]
    assert len(lines) == 1
    days, mag = lines[0].get_xdata(), lines[0].get_ydata()
    assert mag[np.argmin(np.abs(days))] == pytest.approx(18.0, abs=0.01)
    assert {(zp, system) for _, zp, system in model.asked} == {(23.9, "ab")}


@pytest.mark.parametrize("scale", ["mag", "flux"])
def test_a_model_that_knows_its_error_is_drawn_with_a_band_of_it(
    curve: Make, model: Any, drawn: list[Figure], scale: str
) -> None:
    model.bandflux_error = lambda band, time, zp: 0.1 * np.asarray(model.bandflux(band, time, zp))
    plots.light_curve(curve(), model, t0=model.t0, bands=["ztfg"], scale=scale)
    axes = drawn[0].axes[0]
    edges = axes.collections[0].get_paths()[0].vertices
    line = next(line for line in axes.lines if len(line.get_xdata()) == 120)
    day, value = line.get_xdata()[60], line.get_ydata()[60]
    found = sorted({round(float(y), 9) for x, y in edges if abs(x - day) < 1e-9})
    around = value - 2.5 * np.log10([1.1, 0.9]) if scale == "mag" else value * np.array([0.9, 1.1])
    np.testing.assert_allclose(found, around, rtol=1e-6)
    # a model without is drawn as before
    del model.bandflux_error
    plots.light_curve(curve(), model, t0=model.t0, bands=["ztfg"])
    assert not drawn[1].axes[0].collections


def test_flux_is_in_microjansky_whatever_the_zero_points(
    curve: Make, model: Any, drawn: list[Figure]
) -> None:
    light_curve = curve(forced=True)
    points = dict(light_curve.points)
    points["zp"] = points["zp"] + np.where(np.arange(60) % 3 == 0, 1.0, 0.0)
    points["flux"] = points["flux"] * np.where(np.arange(60) % 3 == 0, 10**0.4, 1.0)
    for p in (light_curve.points, points):
        plots.light_curve(LightCurve("0", 1, "x", p), model, t0=model.t0, scale="flux")
    first, second = (
        np.sort(np.concatenate([line.get_ydata() for line in markers(figure.axes[0])]))
        for figure in drawn
    )
    np.testing.assert_allclose(first, second)
    assert first.max() == pytest.approx(10 ** (0.4 * (23.9 - 18.0)), rel=0.1)


def test_points_that_are_left_out_are_counted(curve: Make) -> None:
    light_curve = curve()
    points = {k: v.copy() for k, v in light_curve.points.items()}
    points["jd"][0] -= 400
    svg = plots.light_curve(LightCurve("0", 1, "x", points))
    assert "1 point outside these dates" in texts(svg)


@pytest.mark.parametrize("scale", ["mag", "flux"])
@pytest.mark.parametrize("case", ["one point", "limits only", "no error", "other system"])
def test_odd_light_curves_can_be_drawn(curve: Make, model: Any, case: str, scale: str) -> None:
    p = {k: v.copy() for k, v in curve().points.items()}
    if case == "one point":
        p = {k: v[p["kind"] == DETECTION][:1] for k, v in p.items()}
    if case == "limits only":
        p = {k: v[p["kind"] == UPPER_LIMIT] for k, v in p.items()}
    if case == "no error":
        p["fluxerr"][:] = 0.0
    if case == "other system":
        p["zpsys"][3] = "vega"
    for m in (None, model):
        t0 = None if m is None else m.t0
        svg = plots.light_curve(LightCurve("0", 1, "x", p), m, t0=t0, scale=scale)
        assert b"<svg" in svg


def test_a_light_curve_with_hundred_points_and_a_fit_is_small(curve: Make, model: Any) -> None:
    assert len(plots.light_curve(curve(), model, t0=model.t0)) < 45_000


def test_an_unknown_scale_is_refused(curve: Make) -> None:
    with pytest.raises(ValueError, match="mag or flux"):
        plots.light_curve(curve(), scale="counts")


def test_right_ascension_grows_to_the_left_and_declination_upwards() -> None:
    _, places = plots.sky_locator([180.0, 190.0, 170.0, 180.0], [0.0, 0.0, 0.0, 40.0])
    (x0, y0), (east, _), (west, _), (_, north) = places
    assert east < x0 < west
    assert north < y0  # SVG counts downwards


def test_the_places_of_the_locator_are_mollweides() -> None:
    svg, places = plots.sky_locator(
        [180.0, 0.001, 359.999, 180.0, 180.0], [0.0, 0.0, 0.0, 90.0, -90.0]
    )
    x, y = places.T
    width = x[1] - x[2]
    assert width == pytest.approx(2 * (y[4] - y[3]), rel=1e-3)  # the whole sky is an ellipse 2:1
    box = [float(v) for v in re.search(rb'viewBox="([^"]*)"', svg)[1].split()]  # type: ignore[index]
    assert x[0] == pytest.approx(box[2] / 2, abs=0.1)
    assert y[0] == pytest.approx(box[3] / 2, abs=0.1)


def test_the_galactic_plane_is_where_it_belongs(drawn: list[Figure]) -> None:
    plots.sky_map([10.0], [20.0], highlight=0)
    plane = drawn[0].axes[0].lines[0]
    x, y = np.asarray(plane.get_xdata()), np.asarray(plane.get_ydata())
    known = np.isfinite(x)
    sky = SkyCoord(180 - np.degrees(x[known]), np.degrees(y[known]), unit="deg")
    assert np.abs(sky.galactic.b.deg).max() < 1e-9
    assert np.nanmax(np.abs(np.diff(x))) < np.pi  # no line across the map


def test_a_funnel_says_every_count_and_what_share_is_left(drawn: list[Figure]) -> None:
    steps = [plots.Step(*s) for s in [("alerts", 5000), ("accepted", 902), ("candidates", 0)]]
    found = texts(plots.funnel(steps))
    for text in ("alerts", "accepted", "candidates", "5,000", "902\u2002(18 %)", "0\u2002(0 %)"):
        assert text in found
    lengths = [bar.get_width() for bar in drawn[0].axes[0].patches]
    assert lengths[0] > lengths[1] > lengths[2] == 0


def test_pulls_of_a_unit_normal_have_width_one() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 4000)
    found = texts(plots.pulls({"x1": [*values, np.nan], "c": []}))
    assert "x1 (4000)" in found
    assert "c (0)" in found
    (line,) = [text for text in found if text.startswith("median")]
    median, width = (float(v.replace("−", "-")) for v in re.findall(r"[+−\d.]+", line))
    assert abs(median) < 0.05
    assert abs(width - 1) < 0.05
