"""The start of the Spark session, in one of two ways with the same settings.

- `get_session` starts Spark from a notebook, a test or a command.
- ``spark-submit.sh`` calls this module as a script, which writes the settings to a properties file
  and becomes spark-submit; in the job, `get_session` then returns the session that runs already.

`ampel_spark.settings` makes the settings.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ampel_spark.errors import AmpelSparkError, SetupError
from ampel_spark.settings import (
    check_java,
    check_packages,
    settings,
    share_dir,
    update_environment,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["default_master", "get_session", "submit"]


def get_session(
    app: str = "ampel_spark",
    *,
    master: str | None = None,
    conf: Mapping[str, str] | None = None,
) -> SparkSession:
    """Return the Spark session of this process, and start it if there is none.

    Parameters
    ----------
    app : str
        The application's name on Spark's pages.
    master : str, optional
        The Spark master; by default `default_master`. Ignored under spark-submit, and if a session
        runs already.
    conf : mapping of str to str, optional
        Spark properties that win over those of ``conf/spark``. If a session runs already, only SQL
        properties that can change at run time take effect.

    Raises
    ------
    SetupError
        If Java, the pinned packages or the jars are missing, spark-submit was called without the
        project's settings, or a worker of a cluster has another version than the driver.
    """
    check_packages()
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    properties = dict(conf or {})
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    first = SparkContext._active_spark_context is None
    builder = SparkSession.builder.appName(app)
    if first and not submitted:
        check_java()
        master = master or default_master()
        properties = settings(master) | properties
        update_environment(master, properties)
        builder = builder.master(master)
    for key, value in properties.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    if first:
        atexit.register(session.stop)  # else sockets and local-cluster's executors outlive us
    if "DeltaSparkSessionExtension" not in (session.conf.get("spark.sql.extensions", "") or ""):
        raise SetupError(
            "this Spark session knows no Delta Lake, for it was not started with the project's"
            " settings: submit jobs with ./spark-submit.sh, or stop the session first"
        )
    if first and not (session.sparkContext.master or "local").startswith("local"):
        from ampel_spark.workers import check_workers

        try:
            check_workers(session)
        except SetupError:
            session.stop()
            raise
    # the caller gets the exception; PySpark would print it as a line of JSON too
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return session


def default_master() -> str:
    """Return ``MASTER`` from the environment, else ``local[*]``."""
    return os.environ.get("MASTER") or "local[*]"


def submit(arguments: list[str]) -> NoReturn:
    """Replace this process by spark-submit, with the settings for `default_master`.

    Parameters
    ----------
    arguments : list of str
        A Python script and its arguments.

    Raises
    ------
    ConfigError, SetupError
        As for `settings` and `check_java`.
    """
    check_packages()
    check_java()
    master = default_master()
    properties = settings(master)
    update_environment(master, properties)
    file = _write(properties, share_dir() / "submit")
    command = Path(os.environ["SPARK_HOME"], "bin", "spark-submit")
    options = ["--master", master, "--properties-file", str(file)]
    os.execv(command, [str(command), *options, *arguments])


def _write(properties: Mapping[str, str], folder: Path) -> Path:
    """Write a Java properties file; its name is a hash of its content."""
    text = "".join(f"{key} {value}\n".replace("\\", "\\\\") for key, value in properties.items())
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.conf"
    if not file.exists():
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    return file


def _main(arguments: list[str]) -> int:
    """Run ``check-java``, which setup.sh calls before packages are installed, or ``submit …``."""
    try:
        if arguments[0] == "submit":
            submit(arguments[1:])
        check_java()
    except AmpelSparkError as error:
        print(f"ampel_spark: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
