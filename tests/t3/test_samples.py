"""Units of T3 on samples made by hand: what they make, and what becomes of it in a run."""
# ruff: noqa: E501  (rows are easier to read whole)

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
import yaml
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits
from astropy.table import Table as AstropyTable

from ampel_spark.errors import ConfigError, UnitError
from ampel_spark.job.execution import samples
from ampel_spark.job.execution.samples import run_samples
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import Counts, Run
from ampel_spark.lightcurve import LightCurve
from ampel_spark.t3 import File, Message, Plot, Rows, Sample, T3Unit
from ampel_spark.t3.registry import T3_UNITS, build_t3, t3_trace
from ampel_spark.t3.units import webhook
from tests.conftest import PROJECT
from tests.guides import blocks, run_python
from tests.job.execution.plain import PlainLake

GUIDE = PROJECT / "docs" / "t3.md"
HERE = Path()


def made(unit: str, config: dict[str, Any], sample: Sample, kind: type[Any]) -> list[Any]:
    """Return what a unit of the package makes, of one kind."""
    found = list(build_t3(unit, config, HERE).process(sample))
    for output in found:
        if isinstance(output, Plot):
            assert output.drawn()[:5] in (b"<?xml", b"\x89PNG\r")
    return [output for output in found if isinstance(output, kind)]


def supernovae(n: int = 60, seed: int = 3) -> Sample:
    """Return SALT fits of supernovae in flat LCDM with Omega_m = 0.3, alpha 0.14 and beta 3.1."""
    odd = np.random.default_rng(seed)
    z = odd.uniform(0.02, 0.6, n)
    x1, c = odd.normal(0, 1, n), odd.normal(0, 0.1, n)
    mu = FlatLambdaCDM(H0=70, Om0=0.3).distmod(z).value
    mb = mu - 0.14 * x1 + 3.1 * c - 19.3 + odd.normal(0, 0.05, n)
    x0 = 10 ** (-0.4 * mb)
    covariance = [np.diag([(0.02 * a) ** 2, 0.05**2, 0.01**2]).ravel().tolist() for a in x0]
    fits = pa.table(
        {"z": z, "x0": x0, "x1": x1, "c": c, "covariance": covariance,
         "fitted": [["x0", "x1", "c"]] * n}
    )  # fmt: skip
    return Sample.of({"name": [f"SN{i}" for i in range(n)], "z": z}, {"salt_fit": fits})


def test_the_guide_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ampel_spark.job.configuration.load import load_job

    made = run_python(GUIDE, tmp_path, monkeypatch)
    assert issubclass(made["Redshifts"], T3Unit)
    first, second = (yaml.safe_load(t)["t3"] for lang, _, t in blocks(GUIDE) if lang == "yaml")
    job = {
        "name": "guide",
        "channel": [{"name": "SN", "access": ["ZTF_PUB"]}],
        "t0": [{"channel": "SN", "filter": "All"}],
        "t2": [
            {"unit": "salt_fit", "config": {"model": "salt3/2.0", "redshift": {"fit": [0.01, 0.2]}}}
        ],
        "t3": [*first, *second],
    }
    (tmp_path / "job.yml").write_text(yaml.safe_dump(job))
    loaded = load_job(tmp_path / "job.yml")
    assert [step.name for step in loaded.samples] == [
        "redshifts", "hubble_diagram", "corner_plot", "colour_magnitude", "table_export",
        "packets", "webhook",
    ]  # fmt: skip
    text = GUIDE.read_text()
    assert all(f"| `{name}` |" in text for name in T3_UNITS)


def test_values_are_expressions_over_columns_and_results() -> None:
    sample = Sample.of(
        {"z": [0.1, None, 0.3], "kind": ["Ia", None, "II"]},
        {"fit": pa.table({"x1": [1.0, 2.0, None], "status": [0, 0, 4]})},
    )
    assert sample.values("2 * z").tolist() == pytest.approx([0.2, np.nan, 0.6], nan_ok=True)
    assert sample.values("fit.x1 + z").tolist() == pytest.approx([1.1, np.nan, np.nan], nan_ok=True)
    assert sample.values("fit.status == 0").tolist() == [1, 1, 0]
    assert sample.values("kind").tolist() == ["Ia", None, "II"]
    with pytest.raises(ConfigError, match=r"fit\.x11"):
        sample.values("fit.x11")
    with pytest.raises(ConfigError, match="no unit 'fitt' in t2; did you mean 'fit'"):
        sample.results("fitt")


def test_a_hubble_diagram_finds_the_cosmology_that_was_put_in() -> None:
    sample = supernovae(200)
    (rows,) = made("hubble_diagram", {}, sample, Rows)
    table = rows.arrow()
    z, mu = (np.array(table[name]) for name in ("z", "mu"))
    expected = FlatLambdaCDM(H0=70, Om0=0.3).distmod(z).value
    # all but the common constant, in which the Hubble constant hides
    offset = np.median(mu - expected)
    assert abs(offset) < 0.05
    assert np.std(mu - expected) < 0.12
    text = made("hubble_diagram", {}, sample, Message)[-1].text
    om0 = float(text.split("Omega_m = ")[1].split()[0])
    assert abs(om0 - 0.3) < 0.12
    assert "200 supernovae" in text


def test_a_hubble_diagram_says_how_many_have_no_distance_or_that_they_are_too_few() -> None:
    few = Sample.of({"z": [0.1]}, {"salt_fit": supernovae().results("salt_fit").slice(0, 1)})
    (message,) = made("hubble_diagram", {}, few, Message)
    assert "no Hubble diagram" in message.text
    fits = supernovae().results("salt_fit")
    x0 = [-1.0, *fits["x0"].to_pylist()[1:]]
    worse = fits.set_column(fits.column_names.index("x0"), "x0", pa.array(x0))
    first = made("hubble_diagram", {}, Sample.of({"z": fits["z"]}, {"salt_fit": worse}), Message)[0]
    assert first.text == "1 of 60 candidates have no distance"


def test_a_corner_and_a_colour_magnitude_diagram_take_any_columns() -> None:
    sample = supernovae()
    (plot,) = made("corner_plot", {"columns": ["z", "salt_fit.x1", "2 * salt_fit.c"]}, sample, Plot)
    assert plot.caption.startswith("z, salt_fit.x1, 2 * salt_fit.c of 60 candidates")
    config = {"colour": "salt_fit.c", "magnitude": "-2.5 * log10(salt_fit.x0)", "by": "name"}
    (plot,) = made("colour_magnitude", config, sample, Plot)
    assert plot.form == "svg"
    assert b"others (" in plot.drawn()
    many = Sample.of({"a": np.arange(4000.0), "b": np.arange(4000.0)})
    (plot,) = made("colour_magnitude", {"colour": "a", "magnitude": "b"}, many, Plot)
    assert plot.form == "png"
    empty = Sample.of({"a": pa.array([None, None], pa.float64()), "b": [1.0, 2.0]})
    (message,) = made("colour_magnitude", {"colour": "a", "magnitude": "b"}, empty, Message)
    assert message.text == "no candidate has both a and b"


def test_a_published_table_is_compared_object_by_object(tmp_path: Path) -> None:
    sample = Sample.of({"name": ["a", "b", "c", "d"], "x1": [1.0, 2.0, 3.0, 4.0]})
    (tmp_path / "pub.csv").write_text("SN,x1,e\nb,1.5,0.1\na,1.0,0.1\nz,9,1\nd,,0.1\n")
    config = {
        "file": str(tmp_path / "pub.csv"),
        "name": "SN",
        "columns": {"x1": "x1"},
        "errors": {"x1": "e"},
    }
    messages = [m.text for m in made("published_comparison", config, sample, Message)]
    assert messages == [
        "3 of 4 candidates are in pub.csv",
        "x1: median difference +0.25, robust width 0.371, at most 5 σ",
    ]
    (rows,) = made("published_comparison", config, sample, Rows)
    assert rows.arrow().to_pydict() == {
        "name": ["a", "b", "d"], "x1": [1.0, 2.0, 4.0], "x1_published": [1.0, 1.5, None],
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no column 'x2'; known: SN, e, x1"):
        made("published_comparison", config | {"columns": {"x1": "x2"}}, sample, Rows)


def test_tables_in_astronomy_s_formats_are_read_again_as_they_were() -> None:
    sample = Sample.of(
        {"name": ["SN é", "b"], "z": [0.1, None], "n": pa.array([3, None]), "good": [True, False]},
        units={"z": "", "n": "d"},
    )
    config = {"formats": ["fits", "ecsv", "votable"]}
    files = {f.name: f.data() for f in made("table_export", config, sample, File)}
    assert {*files} == {"sample.fits", "sample.ecsv", "sample.vot"}
    for name, data in files.items():
        table = AstropyTable.read(
            io.BytesIO(data),
            format={"fits": "fits", "ecsv": "ascii.ecsv", "vot": "votable"}[name[7:]],
        )
        assert [str(v) for v in table["name"]][1] == "b"
        assert table["z"][0] == 0.1
        assert np.ma.is_masked(table["z"][1]) or np.isnan(table["z"][1])
        assert int(table["n"][0]) == 3
        assert str(table["n"].unit) == "d"
        assert bool(table["good"][0])
    assert fits.open(io.BytesIO(files["sample.fits"]))[1].data["name"][0] == "SN ?"
    again = {f.name: f.data() for f in made("table_export", config, sample, File)}
    assert again == files


CURVE = LightCurve.of(
    "SN é/1", jd=[2459000.5, 2459001.5], mag=[19, 18.5], band="ztfg", ra=10.0, dec=-5.0
)


def test_packets_say_where_and_when_a_candidate_is() -> None:
    sample = Sample.of({"name": ["SN é/1"], "z": [0.1]}, light_curves=[CURVE], units={"z": "mag"})
    (file,) = made("packets", {"points": True}, sample, File)
    assert file.name == "SN_é_1.json"
    packet = json.loads(file.content)
    assert (packet["ra"], packet["dec"], packet["jd"]) == pytest.approx((10.0, -5.0, 2459001.5))
    assert packet["values"] == {"z": 0.1}
    assert [p["mag"] for p in packet["points"]] == [19.0, 18.5]
    (file,) = made("packets", {"form": "voevent", "author": "example.org"}, sample, File)
    event = ElementTree.fromstring(file.content)
    assert event.tag == "{http://www.ivoa.net/xml/VOEvent/v2.0}VOEvent"
    assert event.attrib["ivorn"].startswith("ivo://example.org/candidates#sample-SN")
    assert event.find(".//Param[@name='z']").attrib == {
        "name": "z",
        "value": "0.1",
        "unit": "mag",
        "dataType": "float",
    }  # type: ignore[union-attr]
    assert event.find(".//C1").text == "10.0"  # type: ignore[union-attr]
    assert event.find(".//ISOTime").text == "2020-06-01T00:00:00.000"  # type: ignore[union-attr]


def test_a_webhook_sends_what_it_shows_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sample = Sample.of({"name": [f"SN{i}" for i in range(12)]})
    try:
        monkeypatch.delenv("THE_ADDRESS", raising=False)
        with pytest.raises(ConfigError, match="THE_ADDRESS holds no address"):
            made("webhook", {"address_in": "THE_ADDRESS"}, sample, Message)
        monkeypatch.setenv("THE_ADDRESS", "https://example.org/secret")
        address = f"http://127.0.0.1:{server.server_address[1]}/secret"
        real = webhook._post
        monkeypatch.setattr(webhook, "_post", lambda _, content: real(address, content))
        (message,) = made("webhook", {"address_in": "THE_ADDRESS", "names": 2}, sample, Message)
    finally:
        server.shutdown()
        server.server_close()
    (body,) = sent
    assert json.loads(body) == {"text": message.text.removeprefix("sent: ")}
    assert message.text == "sent: 12 candidates of sample in run : SN0, SN1 and 10 others"
    assert "secret" not in message.text


class Good(T3Unit):
    """One of each."""

    def process(self, sample: Sample) -> Iterator[Any]:
        yield Message("two\nlines")
        yield Rows({"name": sample.names, "z": sample.values("z"), "bands": [["g", "r"]] * len(sample)},
                   {"z": "mag"}, {"z": "redshift"})  # fmt: skip
        yield Rows({"n": [len(sample)]}, name="counts")
        yield Plot("plot", lambda figure: figure.add_subplot().plot([1, 2]), "a <b> line")
        yield File("deep/er/file.txt", "text")


class Bad(Good):
    """Fails after its first output."""

    def process(self, sample: Sample) -> Iterator[Any]:
        yield Message("before")
        raise KeyError("nothing")


class Wide(T3Unit):
    """A column of another type under the same name."""

    def process(self, sample: Sample) -> Iterator[Any]:
        yield Rows({"z": ["text"]})


class Out(Good):
    """Reaches outside."""

    outward = True


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run's context without Spark, with three candidates of one selection."""
    from ampel_spark.lake.commits import insert

    lake = PlainLake(tmp_path / "lake")
    selection = SimpleNamespace(name="sn", channel="SN", columns={})
    lines: list[str] = []
    monkeypatch.setattr(
        samples, "sample_types", lambda *_: {"z": "double", "fit.x1": "double", "name": "string"}
    )
    monkeypatch.setattr(samples, "column_meanings", lambda *_: ({}, {}))
    context = SimpleNamespace(
        lake=lake, run_id="run", out=lines.append, lines=lines,
        counts=Counts(), reaches_out=True,
        job=SimpleNamespace(selections=[selection], units=[], samples=[], survey=None),
    )  # fmt: skip
    context.commit = lambda table, rows: insert(lake, table, rows, {})
    return context


FOUND = {
    "sn": pa.table(
        {
            "name": ["a", "b", "c"],
            "stock": [1, 2, 3],
            "state_id": ["s1", "s2", "s3"],
            "rank": [1, 2, 3],
            "z": [0.1, 0.2, 0.3],
        }
    )
}


class Fits:
    """Results of a unit, in another order than the candidates, and of other states too."""

    step = SimpleNamespace(columns=[SimpleNamespace(name="x1")])

    def table(self, columns: list[str], where: Any) -> pa.Table:
        n = {"status": [0] * 3, "message": [None] * 3, "duration_ms": [1.0] * 3}
        made = pa.table({"state_id": ["s2", "s1", "s9"], "x1": [2.0, 1.0, 9.0], **n})
        return made.filter(where).select(columns)


def run(context: Any, **units: T3Unit) -> dict[str, Any]:
    context.job.samples = [
        SimpleNamespace(name=n, spec=n, of="sn", unit=u) for n, u in units.items()
    ]
    record: Any = Run("run", "job", "", "", "", {}, "raw", None)  # type: ignore[arg-type]
    return {output.name: output for output in run_samples(context, record, FOUND, {"fit": Fits()})}


def test_what_units_make_is_kept_and_one_that_fails_costs_itself_alone(context: Any) -> None:
    found = run(context, bad=Bad(), good=Good())
    assert found["bad"].messages == ["before"]
    assert found["bad"].failure.startswith("KeyError: 'nothing' (")
    assert "test_samples.py" in found["bad"].failure
    assert any(line.startswith("warning: T3: bad failed: KeyError") for line in context.lines)
    good = found["good"]
    assert (good.failure, good.messages) == ("", ["two lines"])
    assert good.tables == {"t3_good": 3, "t3_good_counts": 1}
    root = context.lake.root
    assert [Path(p).relative_to(root / "exports" / "run" / "good").as_posix() for p in good.files] == [
        "plot.svg", "deep/er/file.txt",
    ]  # fmt: skip
    assert Path(good.files[0]).read_bytes() == good.plots[0].data
    rows = read(root, "t3_good").to_pylist()
    assert rows[1] == {"row": 2, "run_id": "run", "name": "b", "z": 0.2, "bands": ["g", "r"]}
    assert context.counts.samples["good"]["plots"] == 1
    assert context.counts.samples["bad"]["failed"] == found["bad"].failure


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (File("../up.txt", "x"), "leads out of the run's exports"),
        (File("/etc/x", "x"), "leads out of the run's exports"),
        (Plot("../../up", lambda f: None), "leads out of the run's exports"),
        (Rows({"run_id": [1]}), "run_id of its own"),
        (Rows({"a": [1], "b": [1, 2]}), "columns of one length"),
        (Rows({"a": [{"x": 1}]}), "which a table does not keep"),
        ("text", "neither a Plot, nor Rows, a File or a Message"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_name(context: Any, output: Any, said: str) -> None:
    class Odd(T3Unit):
        def process(self, sample: Sample) -> Iterator[Any]:
            yield output

    assert said in run(context, odd=Odd())["odd"].failure


def test_a_column_keeps_its_type_from_run_to_run(context: Any) -> None:
    run(context, same=Good())
    assert (
        "has a column 'z' of double from an earlier run"
        in run(context, same=Wide())["same"].failure
    )


def test_what_reaches_outside_stays_away_from_a_run_again(context: Any) -> None:
    context.reaches_out = False
    assert [*run(context, out=Out(), good=Good())] == ["good"]
    assert any("reaches outside, and is left out" in line for line in context.lines)


def test_results_come_in_the_order_of_the_candidates(context: Any) -> None:
    class Looks(T3Unit):
        def process(self, sample: Sample) -> Iterator[Any]:
            yield Message(str(sample.values("fit.x1").tolist()))
            assert len(sample.results("fit")) == 3

    found = run(context, looks=Looks())["looks"]
    assert (found.failure, found.messages) == ("", ["[1.0, 2.0, nan]"])


OWN = """
from pathlib import Path
from ampel_spark.t3 import Message, T3Unit

class Own(T3Unit):
    file: Path
    def process(self, sample):
        yield Message('hello')

class Nothing(T3Unit):
    pass
"""


def test_the_trace_of_a_unit_is_over_its_code_parameters_and_files(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "data.csv").write_text("1")
    first = t3_trace(build_t3("own.py:Own", {"file": "data.csv"}, tmp_path), "own")[0]
    (tmp_path / "data.csv").write_text("2")
    second = t3_trace(build_t3("own.py:Own", {"file": "data.csv"}, tmp_path), "own")[0]
    (tmp_path / "own.py").write_text(OWN.replace("hello", "hullo"))
    third = t3_trace(build_t3("own.py:Own", {"file": "data.csv"}, tmp_path), "own")[0]
    assert len({first, second, third}) == 3
    with pytest.raises(UnitError, match="defines no process"):
        build_t3("own.py:Nothing", {}, tmp_path)
