"""What the documents show is so: jobs validate, paths exist, links lead somewhere."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from ampel_spark.archive.reading.surveys import OwnColumns, Survey
from ampel_spark.calibration.entries import ReleaseEntry
from ampel_spark.job.configuration.model import SystematicsEntry
from tests.conftest import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
NAMED = re.compile(
    r"`((?:ampel_spark|jobs|conf|tests|docs|notebooks|benchmarks|archive|t[0-3]|lake|job)/[\w./]*\w\.\w+)`"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    for name in NAMED.findall(text):
        if not (PROJECT / name).exists() and not (PROJECT / "ampel_spark" / name).exists():
            missing.append(name)
    assert missing == []


def test_the_architecture_page_names_every_package() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    packages = {p.parent.name for p in (PROJECT / "ampel_spark").glob("*/__init__.py")}
    assert {name for name in packages if f"`ampel_spark/{name}`" not in text} == set()


def test_a_module_imports_only_what_stands_above_it_in_the_architecture() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    order = re.findall(r"`ampel_spark/(\w+)(?:\.py)?`", text[: text.index("`jobs/` holds")])
    package = PROJECT / "ampel_spark"
    wrong = []
    for path in sorted(package.rglob("*.py")):
        mine = path.relative_to(package).parts[0].removesuffix(".py")
        if mine == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            above = module.removeprefix("ampel_spark.").split(".")[0]
            ours = module.startswith("ampel_spark.") and above != mine
            if ours and order.index(above) > order.index(mine):
                wrong.append(f"{path.relative_to(PROJECT)} imports {module}")
    assert wrong == []


def test_the_job_of_the_release_is_shown_with_the_table_that_it_needs(tmp_path: Path) -> None:
    from ampel_spark.errors import ConfigError
    from ampel_spark.job.configuration.load import load_job

    text = "".join(page.read_text().replace("\\\n", "") for page in PAGES)
    shown = re.findall(r"ampel-spark \w+ jobs/ztf_snia_dr1\.yml[^#`\n]*", text)
    assert len(shown) > 1
    assert all("--set t2.release.config.file=DR1/sample_coords.txt" in c for c in shown)
    assert all("--set t2.milky_way_dust.config.map=" in command for command in shown)
    job, table = PROJECT / "jobs" / "ztf_snia_dr1.yml", tmp_path / "salt2_params.csv"
    with pytest.raises(ConfigError, match=r"t2\[0\]\.config\.file: there is no file"):
        load_job(job)
    table.write_text("ztfname,z,MWebv,t0,t0_err,x1,x1_err,c,c_err\na,0.1,0.02,1,1,1,1,1,1\n")
    # the command for these, as the job's own comment has it; the model is to be had elsewhere
    head = "".join(line.lstrip("# ") for line in job.read_text().splitlines(True) if line[0] == "#")
    (units,) = re.findall(r"--set '(t2=.*?)'", head, re.S)
    units = " ".join(units.split()).replace("salt2_params.csv", str(table))
    load_job(job, [units, "t2.salt_fit.config.model=salt3/2.0"])


def test_the_jobs_releases_and_surveys_of_the_guide_are_valid(tmp_path: Path) -> None:
    from ampel_spark.job.configuration.load import load_job

    job_text, release_text, own_text, steps, varied_text = re.findall(
        r"```yaml\n(.*?)```", (PROJECT / "docs" / "jobs.md").read_text(), re.S
    )
    (survey_text,) = re.findall(
        r"```yaml\n(.*?)```", (PROJECT / "docs" / "photometry.md").read_text(), re.S
    )
    path = tmp_path / "job.yml"
    path.write_text(job_text)
    job = load_job(path)
    assert [unit.name for unit in job.units] == [
        "light_curve_summary",
        "milky_way_dust",
        "host",
        "salt_fit",
    ]
    release = ReleaseEntry.model_validate(yaml.safe_load(release_text))
    assert [rule.name for rule in release.rules][:2] == ["g zero point", "dead quadrant"]
    varied = SystematicsEntry.model_validate(
        yaml.safe_load(varied_text)["systematics"], strict=False
    )
    assert [v.name for v in varied.variations] == ["zp_g", "filter_r", "dust"]
    own = OwnColumns.model_validate(yaml.safe_load(own_text)["columns"])
    assert ([*own.alerts], [*own.points]) == (["reliability"], ["snr"])
    survey = Survey.model_validate(yaml.safe_load(survey_text))
    assert survey.photometry is not None
    (tmp_path / "sample.csv").write_text("object,redshift,MWebv\na,0.1,0.02\n")
    path.write_text("name: sample\nchannel: [{name: SNIa, access: [ZTF_PUB]}]\n" + steps)
    assert [unit.name for unit in load_job(path).units] == ["sample", "salt_fit"]


def test_commands_that_the_pages_show_are_commands() -> None:
    from ampel_spark.cli import main

    shown = {m for page in PAGES for m in re.findall(r"ampel-spark ([a-z]+)\b", page.read_text())}
    assert {"run", "runs", "show", "explain", "object", "tables", "units", "validate"} <= shown
    for command in sorted(shown):
        assert main([command, "--help"]) == 0, command
