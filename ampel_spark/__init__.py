"""Archive-scale, reproducible transient science on alert streams, with Spark and Delta Lake.

The way in from Python; nothing is imported before it is used:

>>> import ampel_spark as aps
>>> lake = aps.open("lake")
>>> lake.run("latest").status
'good'
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ampel_spark.interface.fitting import fit
    from ampel_spark.interface.lake_view import open_lake as open  # noqa: A004 - as aps.open
    from ampel_spark.interface.running import run
    from ampel_spark.lightcurve import LightCurve

__all__ = ["LightCurve", "__version__", "fit", "open", "run"]

__version__ = "0.1.0"

#: Where the names of this package are: module and name there.
_PLACES = {
    "LightCurve": ("ampel_spark.lightcurve", "LightCurve"),
    "fit": ("ampel_spark.interface.fitting", "fit"),
    "open": ("ampel_spark.interface.lake_view", "open_lake"),
    "run": ("ampel_spark.interface.running", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ampel_spark' has no attribute {name!r}")
    from importlib import import_module

    module, there = _PLACES[name]
    return getattr(import_module(module), there)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
