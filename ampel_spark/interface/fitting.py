"""A unit, run on light curves at hand: no lake, no Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ampel_spark.errors import ConfigError
from ampel_spark.lightcurve import LightCurve, LightCurveBatch

if TYPE_CHECKING:
    from ampel_spark.t2.unit import Unit

__all__ = ["UnitResult", "fit"]


@dataclass(frozen=True)
class UnitResult:
    """What a unit made of one light curve.

    Attributes
    ----------
    unit : str
        How the unit was named.
    name : str
        Name of the object.
    status : int
        0 is good; negative codes are AMPEL's (-4: the unit raised an exception), positive ones the
        unit's own.
    message : str
        Why the status is not 0.
    values : mapping of str to value
        The unit's columns; None for null. They are attributes too: ``result.x1``.
    duration_ms : float
        Time that it took [ms].

    Examples
    --------
    >>> import ampel_spark as aps
    >>> curve = aps.LightCurve.of(jd=[2459000.7, 2459003.7], mag=[19.8, 18.9], magerr=0.1,
    ...                           band="ztfr", ra=10.0, dec=20.0)
    >>> result = aps.fit(curve, "light_curve_summary")
    >>> result.good, result.n_detections
    (True, 2)
    """

    unit: str
    name: str
    status: int
    message: str
    values: Mapping[str, Any]
    duration_ms: float

    @property
    def good(self) -> bool:
        """Whether there is a result and nothing to say against it."""
        return self.status == 0

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values")
        if values is not None and name in values:
            return values[name]
        known = ", ".join(values or ())
        raise AttributeError(f"the result of {self.__dict__.get('unit')} has no {name!r}: {known}")


@overload
def fit(
    light_curve: LightCurve, unit: str | type[Unit] | Unit = ..., **config: Any
) -> UnitResult: ...
@overload
def fit(
    light_curve: Sequence[LightCurve], unit: str | type[Unit] | Unit = ..., **config: Any
) -> list[UnitResult]: ...
def fit(
    light_curve: LightCurve | Sequence[LightCurve],
    unit: str | type[Unit] | Unit = "salt_fit",
    **config: Any,
) -> UnitResult | list[UnitResult]:
    """Run a unit on one light curve, or on several.

    It does what a job's ``t2`` entry would do: parameters are checked, one light curve that fails
    is a status and a message, and the columns have the types that the unit declares.

    Parameters
    ----------
    light_curve : LightCurve or sequence of LightCurve
        Results of units that the unit is tied to are taken from ``light_curve.results``.
    unit : str, class or Unit
        A unit of the package, ``module:Class``, ``path/file.py:Class``, a class, or a unit with its
        parameters.
    **config
        Parameters of the unit, as in a job's ``config``.

    Returns
    -------
    UnitResult or list of UnitResult
        One for each light curve.

    Raises
    ------
    UnitError
        If there is no such unit.
    ConfigError
        If a parameter is unknown, missing or of the wrong type.

    Examples
    --------
    >>> import ampel_spark as aps
    >>> lake = aps.open("lake")
    >>> run = lake.run("latest")
    >>> name = run.candidates("bright")["name"][0].as_py()
    >>> curve = lake.object(name).light_curve()
    >>> result = aps.fit(curve, "light_curve_summary")
    >>> result.peak_mag == curve.results["light_curve_summary"]["peak_mag"]
    True
    >>> few = aps.fit(curve.where(curve.jd < curve.jd[3]), "salt_fit", redshift=0.05, min_points=9)
    >>> few.status, few.message
    (1, '3 points to fit, 9 needed')
    """
    from ampel_spark.t2.runner import results_of

    built, label = _built(unit, config)
    curves = [light_curve] if isinstance(light_curve, LightCurve) else list(light_curve)
    rows = results_of(built, LightCurveBatch.of(curves)).to_pylist() if curves else []
    results = []
    for curve, row in zip(curves, rows, strict=True):
        head = {name: row.pop(name) for name in ("status", "message", "duration_ms")}
        results.append(
            UnitResult(
                label, curve.name, head["status"], head["message"] or "", row, head["duration_ms"]
            )
        )
    return results[0] if isinstance(light_curve, LightCurve) else results


def _built(unit: str | type[Unit] | Unit, config: Mapping[str, Any]) -> tuple[Unit, str]:
    """Return a unit with its parameters, and how it is called."""
    from ampel_spark.classes import build_model
    from ampel_spark.t2.registry import build, placed

    if isinstance(unit, str):
        return build(unit, config, Path.cwd()), unit
    if isinstance(unit, type):
        name = unit.__name__
        return placed(build_model(unit, config, f"unit {name!r}"), name, Path.cwd()), name
    if config:
        raise ConfigError(
            f"unit {type(unit).__name__} has its parameters already: change them with model_copy, "
            f"or give its class with {', '.join(config)}"
        )
    return unit, type(unit).__name__
