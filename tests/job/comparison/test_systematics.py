"""The page of a grid of variations: what it says of shifts, shares and other minima."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ampel_spark.job.comparison import systematics as pages
from ampel_spark.job.comparison.systematics import (
    Grid,
    Varied,
    covariance,
    factors,
    render_systematics,
)
from ampel_spark.job.execution import systematics as writing
from ampel_spark.job.execution.systematics import write_results

N = 25


def _grid() -> Grid:
    draw = np.random.default_rng(8)
    nominal = {"c": draw.normal(0, 0.1, N), "mu": draw.uniform(35, 40, N)}
    hop = np.zeros(N, bool)
    hop[4] = True
    steps = {"zp_g": -0.0138, "zp_r": 0.0238}
    varied = tuple(
        Varied(
            name, f"run-{name}", f"{name}_10mmag", 1.0,
            {"c": nominal["c"], "mu": nominal["mu"] + step + 1e-4 * draw.normal(size=N)},
            hop & (name == "zp_r"), {"salt_fit": (N, N)},
        )
        for name, step in steps.items()
    )  # fmt: skip
    names = np.array([f"ZTF24aaaaa{chr(97 + i)}" for i in range(N)], object)
    return Grid("a-run", names, np.arange(N), nominal, {}, varied)


@pytest.fixture(scope="module")
def page() -> str:
    grid = _grid()
    return render_systematics(grid, factors(grid)[0])


def _row(page: str, name: str) -> list[str]:
    row = next(
        r for r in re.findall(r"<tr>.*?</tr>", page) if f">{name}<" in r.replace("<wbr>", "")
    )
    return [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]


def test_distances_stand_first_with_the_median_shift_and_its_width(page: str) -> None:
    assert page.index("Δ mu [mag]") < page.index("Δ c")
    shift = _row(page, "zp_g")[3]
    median, width = map(float, shift.replace("−", "-").split(" ±\u00a0"))
    assert median == pytest.approx(-0.0138, abs=1e-4)
    assert width == pytest.approx(1e-4, rel=0.6)


def test_each_variation_has_its_share_of_the_covariance(page: str) -> None:
    assert [_row(page, name)[2] for name in ("zp_g", "zp_r")] == ["13.8 mmag", "23.8 mmag"]
    assert "27.5 mmag" in page  # √(13.8² + 23.8²)


def test_a_page_without_distances_has_no_shares() -> None:
    page = render_systematics(_grid(), None)
    assert "its share" not in page
    assert "mean diagonal" not in page


def test_objects_that_changed_minimum_are_named_with_the_variation(page: str) -> None:
    assert re.search(r"ZTF24aaaaae</th><td class=\"text\">zp_r<", page)


def test_the_covariance_is_written_as_cosmology_fits_read_it(tmp_path: Path) -> None:
    grid = _grid()
    _, matrix_file, objects = write_results(tmp_path, grid)
    values = np.loadtxt(matrix_file)
    assert int(values[0]) == N
    assert np.array_equal(values[1:].reshape(N, N), covariance(factors(grid)[0]))
    assert objects.read_text().splitlines()[1].startswith("ZTF24aaaaaa,0,")


def test_of_many_distances_the_factors_of_the_covariance_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing with as many numbers as pairs of objects is made."""
    grid = _grid()
    whole = covariance(factors(grid)[0])
    monkeypatch.setattr(writing, "LARGEST", N - 1)
    monkeypatch.setattr(pages, "LARGEST", N - 1)
    monkeypatch.setattr(pages, "covariance", None)
    page, file, objects = write_results(tmp_path, grid)
    with np.load(file) as found:
        assert found["factors"].shape == (2, N)
        np.testing.assert_allclose(found["factors"].T @ found["factors"], whole, atol=1e-15)
        assert found["variations"].tolist() == ["zp_g", "zp_r"]
        assert found["stocks"].tolist() == list(range(N))
    assert objects.name == "systematics_objects.csv"
    assert "27.5 mmag" in page.read_text()
