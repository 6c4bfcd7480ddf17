"""The report of a run: one HTML file for paper, screen or phone.

The file needs no network and no other file. A short script of its own sorts and filters tables; the
report is complete without it. Text from packets, catalogues and units is escaped, never markup, and
the content policy allows no other script.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ampel_spark.lightcurve import FORCED
from ampel_spark.t3 import plots
from ampel_spark.t3.cells import candidate_table, result_rows
from ampel_spark.t3.content import (
    Candidate,
    Drawn,
    Funnel,
    ReportContent,
    RunSummary,
    SampleOutput,
    Selected,
    UnitRun,
)
from ampel_spark.t3.figures import for_page
from ampel_spark.t3.numbers import count, date_of, degrees, number, sexagesimal
from ampel_spark.t3.pages import page, write_page
from ampel_spark.t3.sky_plots import density_of_cells, finder
from ampel_spark.t3.stamps import stamps

__all__ = ["fitted_model", "lacking", "render", "write_report"]

_STATUS = {
    0: ("good", "good"),
    -4: ("exception", "bad"),
    -2006: ("missing dependency", "doubt"),
    -2008: ("missing information", "doubt"),
}
_IDENTIFIERS = ("run", "parent run", "job hash", "git commit", "lake")


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report of a run to `path` in one step."""
    write_page(path, render(content))


def render(content: ReportContent) -> str:
    """Return the report as HTML; the same content gives the same text."""
    return page("report.html", _view(content))


def _view(content: ReportContent) -> dict[str, Any]:
    """Return the values that the template shows, with numbers as text."""
    run = content.run
    anchors = _anchors(content.candidates)
    sky, locator, places = _sky(content.candidates)
    view = {
        "archive": content.archive,
        "archive_total": _total(content),
        "alerts_sky": _alerts_sky(content),
        "cards": [
            _card(i, candidate, anchor, place, content)
            for i, (candidate, anchor, place) in enumerate(
                zip(content.candidates, anchors, places, strict=True)
            )
        ],
        "facts": _facts(content),
        "funnels": [_funnel(i, funnel) for i, funnel in enumerate(content.funnels)],
        "headline": _headline(content),
        "identifiers": _IDENTIFIERS,
        "locator": locator,
        "notes": content.notes,
        "provenance": _provenance(run),
        "pulls": _pulls(content),
        "quarantine": content.quarantine,
        "run": run,
        "run_class": {"good": "good", "partial": "doubt"}.get(run.status, "bad"),
        "seconds": {name: f"{value:.1f}" for name, value in run.seconds.items()},
        "samples": [_sample(i, made) for i, made in enumerate(content.samples)],
        "selections": [_selection(selected, content, anchors) for selected in content.selections],
        "sky": sky,
        "states": content.states,
        "units": [_unit(unit) for unit in content.units],
        "warnings": content.warnings,
    }
    return view | {"sections": _sections(content)}


# --- the head ----------------------------------------------------------------------------------


def _total(content: ReportContent) -> dict[str, int]:
    names = ("packets", "stored", "duplicate", "quarantined")
    return {name: sum(getattr(file, name) for file in content.archive) for name in names}


def _alerts_sky(content: ReportContent) -> dict[str, Any] | None:
    cells = np.asarray(content.alerts_in_cells)
    if not cells.any():
        return None
    return {"plot": _inline(density_of_cells(cells), "d"), "n": count(int(cells.sum()))}


def _plural(n: int, word: str) -> str:
    return f"{count(n)} {word}{'' if n == 1 else 's'}"


def _headline(content: ReportContent) -> str:
    if content.run.status not in ("good", "partial"):
        return f"The run ended as {content.run.status}"
    # an object that several selections have is one candidate
    found = len({n for s in content.selections for n in s.candidates.get("name", ())})
    text = _plural(found, "candidate") if found else "No candidates"
    alerts = max((f.stages[0].count for f in content.funnels if f.stages), default=0)
    return f"{text} from {_plural(alerts, 'alert')}" if alerts else text


def _facts(content: ReportContent) -> list[tuple[str, str]]:
    facts = []
    if content.archive:
        facts.append(("packets seen", count(_total(content)["packets"])))
    if content.quarantine:
        facts.append(("quarantined", count(sum(reason.count for reason in content.quarantine))))
    facts.extend((name, count(n)) for name, n in content.totals.items())
    if content.units:
        facts.append(("results computed", count(sum(unit.computed for unit in content.units))))
        facts.append(("taken over", count(sum(unit.present for unit in content.units))))
    facts.append(("calibration", content.run.calibration))
    if content.run.as_of:
        facts.append(("as of", content.run.as_of))
    if content.run.ended:
        seconds = (content.run.ended - content.run.started).total_seconds()
        facts.append(("took", _duration(seconds)))
    return facts


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _sections(content: ReportContent) -> list[tuple[str, str]]:
    sections = [
        (content.funnels, "funnel", "Funnel"),
        (content.archive or content.states or content.units, "accounting", "Accounting"),
        (content.pulls, "truth", "Truth"),
        (True, "candidates", "Candidates"),
        (content.samples, "samples", "Of the candidates"),
        (content.candidates, "objects", "One by one"),
        (True, "provenance", "Provenance"),
    ]
    return [(anchor, title) for there, anchor, title in sections if there]


# --- what ran, and what was lost ---------------------------------------------------------------


def _provenance(run: RunSummary) -> list[tuple[str, str]]:
    rows = [
        ("run", run.run_id),
        ("parent run", run.parent_run_id),
        ("job", run.job),
        ("job hash", run.job_hash),
        ("started", f"{run.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("ended", f"{run.ended:%Y-%m-%d %H:%M:%S} UTC" if run.ended else ""),
        ("status", run.status),
        ("survey", run.survey),
        ("as of", run.as_of),
        ("calibration", run.calibration),
        ("lake", run.lake),
        ("git commit", run.git_commit),
    ]
    return [(label, value) for label, value in rows if value]


def _funnel(i: int, funnel: Funnel) -> dict[str, Any]:
    summary = ", ".join(f"{stage.label} {count(stage.count)}" for stage in funnel.stages)
    return {
        "access": funnel.access,
        "channel": funnel.channel,
        "cuts": funnel.cuts,
        "plot": _inline(plots.funnel(funnel.stages), f"f{i}") if funnel.stages else None,
        "unknown": any(cut.n_unknown for cut in funnel.cuts),
        "summary": f"Funnel of channel {funnel.channel}: {summary}",
    }


def _unit(unit: UnitRun) -> dict[str, Any]:
    statuses = []
    for status, n in sorted(unit.statuses.items(), key=lambda item: (item[0] != 0, item[0])):
        text, kind = _meaning(status, unit.meanings)
        statuses.append({"text": text, "count": n, "kind": kind})
    kinds = {"good": "good", "poor": "bad"}
    grades = [
        {"text": grade, "count": n, "kind": kinds.get(grade, "doubt")}
        for grade, n in unit.qualities.items()
    ]
    return {
        "grades": grades,
        "doubts": ", ".join(f"{doubt} {count(n)}" for doubt, n in unit.doubts.items()),
        "computed": unit.computed,
        "median_ms": unit.median_ms,
        "messages": unit.messages,
        "present": unit.present,
        "statuses": statuses,
        "unit": unit.unit,
        "wanted": unit.wanted,
    }


def _meaning(status: int, meanings: Mapping[int, str]) -> tuple[str, str]:
    text, kind = _STATUS.get(status, ("status", "bad" if status < 0 else "doubt"))
    if status in meanings:
        text = meanings[status]
    return (text if status == 0 else f"{text} ({number(status)})"), kind


def _pulls(content: ReportContent) -> dict[str, Any] | None:
    if not content.pulls:
        return None
    names = ", ".join(content.pulls)
    return {
        "plot": _inline(plots.pulls(content.pulls), "q"),
        "summary": f"Histograms of the pulls of {names} against the unit normal distribution",
    }


def _sample(i: int, made: SampleOutput) -> dict[str, Any]:
    return {
        "failure": made.failure,
        "files": made.files,
        "messages": made.messages,
        "name": made.name,
        "of": made.of,
        "plots": [_drawn(f"t{i}-{k}-", drawn) for k, drawn in enumerate(made.plots)],
        "tables": made.tables,
        "unit": made.unit,
    }


def _drawn(prefix: str, drawn: Drawn) -> dict[str, Any]:
    source = None
    if drawn.form != "svg":
        source = f"data:image/png;base64,{base64.b64encode(drawn.data).decode()}"
    return {
        "caption": drawn.caption,
        "plot": None if source else _inline(drawn.data, prefix),
        "source": source,
        "text": drawn.caption or drawn.name,
    }


# --- candidates --------------------------------------------------------------------------------


def _selection(
    selected: Selected, content: ReportContent, anchors: Sequence[str]
) -> dict[str, Any]:
    links: dict[str, str] = {}
    for candidate, anchor in zip(content.candidates, anchors, strict=True):
        links.setdefault(candidate.name, anchor)
    columns, rows = candidate_table(selected, links)
    cropped = selected.n_selected is not None and selected.n_selected > len(selected.candidates)
    return {
        "channel": selected.channel,
        "columns": columns,
        "condition": selected.condition,
        "cropped": cropped and selected.limit is not None,
        "exports": selected.exports,
        "limit": selected.limit,
        "n_selected": selected.n_selected,
        "name": selected.name,
        "rank": selected.rank,
        "rows": rows,
    }


def _anchors(candidates: Sequence[Candidate]) -> list[str]:
    """Return a unique id for each candidate, made of its name."""
    anchors: list[str] = []
    for candidate in candidates:
        plain = "object-" + re.sub(r"[^A-Za-z0-9_-]+", "-", candidate.name)
        anchors.append(plain if plain not in anchors else f"{plain}-{len(anchors)}")
    return anchors


def _sky(candidates: Sequence[Candidate]) -> tuple[Any, Any, list[list[str] | None]]:
    """Return the map of all candidates, the map for cards, and each candidate's place on that."""
    if not candidates:
        return None, None, []
    ra = np.array([candidate.ra for candidate in candidates], float)
    dec = np.array([candidate.dec for candidate in candidates], float)
    known = np.isfinite(ra) & np.isfinite(dec)
    sky = {
        "plot": _inline(plots.sky_map(ra[known], dec[known]), "s"),
        "summary": f"Map of the sky with {_plural(int(known.sum()), 'candidate')}",
    }
    svg, places = plots.sky_locator(ra, dec)
    text = for_page(svg, "l")
    box = re.search(r'viewBox="([^"]*)"', text)
    inner = text[text.index(">") + 1 : text.rindex("</svg>")]
    locator = {"viewbox": box[1] if box else "", "map": Markup(inner)}
    return sky, locator, [
        [f"{x:.1f}" for x in place] if good else None
        for place, good in zip(places, known, strict=True)
    ]  # fmt: skip


def _card(
    i: int, candidate: Candidate, anchor: str, place: list[str] | None, content: ReportContent
) -> dict[str, Any]:
    try:
        plot, problem = _curve(candidate, content.model_of or fitted_model)
    except Exception as error:  # one card costs the others nothing
        plot, problem = b"", f"The light curve could not be drawn: {type(error).__name__}: {error}"
    curve = candidate.light_curve
    detections = curve.detections
    facts = [
        ("RA, Dec", f"{degrees(candidate.ra)}° {degrees(candidate.dec)}°"),
        ("hms, dms", sexagesimal(candidate.ra, candidate.dec)),
        ("galactic l, b", f"{degrees(candidate.gal_l, 2)}° {degrees(candidate.gal_b, 2)}°"),
        ("detections", count(len(detections))),
        ("upper limits", count(len(curve.upper_limits))),
    ]
    if forced := int((curve.points["kind"] == FORCED).sum()):
        facts.append(("forced photometry", count(forced)))
    if len(detections):
        first, last = float(detections.jd.min()), float(detections.jd.max())
        facts.append(("first detection", f"{date_of(first)} (JD {first:.2f})"))
        facts.append(("last detection", f"{date_of(last)} (JD {last:.2f})"))
    facts.append(("state", candidate.state_id))
    return {
        "anchor": anchor,
        "cutouts": _cutouts(candidate),
        "facts": facts,
        "finder": _inline(finder(candidate.ra, candidate.dec, candidate.around), f"n{i}")
        if candidate.around
        else None,
        "name": candidate.name,
        "place": place,
        "plot": _inline(plot, f"c{i}") if plot else None,
        "problem": problem,
        "ranks": _ranks(candidate, content.selections),
        "results": [
            {
                "kind": _meaning(result.status, {})[1],
                "message": result.message,
                "status": result.status,
                "status_text": number(result.status),
                "unit": result.unit,
                "rows": result_rows(result),
            }
            for result in candidate.results
        ],
        "summary": f"Light curve of {candidate.name}"
        + (" with its fit and residuals" if candidate.fit and not problem else ""),
    }


def _cutouts(candidate: Candidate) -> dict[str, str] | None:
    image = stamps(candidate.cutouts) if candidate.cutouts else b""
    if not image:
        return None
    jd = candidate.cutouts_jd
    when = "" if jd is None else f" of {date_of(jd)} (JD {jd:.2f})"
    return {
        "source": f"data:image/png;base64,{base64.b64encode(image).decode()}",
        "text": f"Science, reference and difference image{when}",
    }


def _ranks(candidate: Candidate, selections: Sequence[Selected]) -> list[str]:
    ranks = []
    for selected in selections:
        table = selected.candidates
        found = table["rank"][table["name"] == candidate.name] if len(table) else ()
        ranks += [f"rank {int(rank)} in {selected.name}" for rank in found]
    return ranks


def _curve(
    candidate: Candidate, model_of: Callable[[Mapping[str, Any]], plots.ModelCurve]
) -> tuple[bytes, str]:
    """Return the plot of a candidate, and the reason if it does not show the given fit."""
    curve, fit = candidate.light_curve, candidate.fit
    if not len(curve):
        return b"", "There is no point to draw."
    forced = (curve.points["kind"] == FORCED).sum()
    scale = "flux" if forced > 0.5 * len(curve) else "mag"
    if fit is None:
        return plots.light_curve(curve, scale=scale), ""
    if missing := lacking(fit):
        text = f"The fit has no {', '.join(missing)}: its curve is not drawn."
        return plots.light_curve(curve, scale=scale), text
    bands = [str(band) for band in fit.get("bands", ())]
    model = model_of(fit)
    return plots.light_curve(curve, model, t0=float(fit["t0"]), bands=bands, scale=scale), ""


def lacking(fit: Mapping[str, Any]) -> list[str]:
    """Return the parameters that a row of the SALT unit lacks, so that no model can be drawn."""
    needed = ("z", "t0") if fit.get("parameter_names") else ("z", "t0", "x0", "x1", "c")
    return [name for name in needed if not _known(fit.get(name))]


def _known(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


@dataclass(frozen=True)
class _LocalModel:
    """A model with bands of the data folder; sncosmo might download bands given by name."""

    model: Any
    curve: Callable[[str], Any]
    error: Callable[..., Any]

    def bandflux(self, band: str, time: Any, zp: Any = None, zpsys: Any = None) -> Any:
        return self.model.bandflux(self.curve(band), time, zp=zp, zpsys=zpsys)

    def bandflux_error(self, band: str, time: Any, zp: float) -> Any:
        return self.error(self.model, self.curve(band), time, zp)

    def mintime(self) -> float:
        return float(self.model.mintime())

    def maxtime(self) -> float:
        return float(self.model.maxtime())


def fitted_model(fit: Mapping[str, Any]) -> plots.ModelCurve:
    """Return the model that a row of the SALT unit describes, as plots take it."""
    # imported here, as sncosmo takes seconds to import and a report without fits does not need it
    from ampel_spark.t2.units.salt_fit import bandpass_of, flux_error, model_of

    return _LocalModel(model_of(fit), bandpass_of, functools.partial(flux_error, fit))


def _inline(svg: bytes, prefix: str) -> Markup:
    return Markup(for_page(svg, prefix))
