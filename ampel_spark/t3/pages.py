"""HTML pages, each one file without other files, made of a template and the common style."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ampel_spark.t3.numbers import count, number, percent

__all__ = ["page", "write_page"]


def page(template: str, view: Mapping[str, Any]) -> str:
    """Return a page as HTML; the same view gives the same text.

    Parameters
    ----------
    template : str
        A file of ``templates``. It also gets ``style``, ``script`` and ``script_hash``: the content
        policy of a page allows no other script.
    view : mapping
        The values that the template shows; text is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ampel_spark.t3", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": _breakable,
        "count": count,
        "number": number,
        "percent": percent,
    }
    script = _template("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = {
        "script": Markup(script),
        "script_hash": Markup(f"sha256-{digest}"),
        "style": Markup(_template("page.css")),
    }
    return environment.get_template(template).render({**shared, **view})


def write_page(path: Path, text: str) -> None:
    """Write a page in one step: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _breakable(name: str) -> Markup:
    """Return a name with possible line breaks after its underscores."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _template(name: str) -> str:
    return (resources.files("ampel_spark.t3") / "templates" / name).read_text(encoding="utf-8")
