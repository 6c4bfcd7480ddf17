"""The settings that Spark starts with: properties, jars, Java, environment variables.

``conf/spark`` holds all properties: ``common.conf``, and one file for each kind of master.
`settings` reads them and fills in facts of the machine. These environment variables change them:

- ``AMPEL_SPARK_PROPERTIES``, a file of properties that win over ``conf/spark``;
- ``AMPEL_SPARK_DRIVER_MEMORY``, such as ``4g``;
- ``AMPEL_SPARK_CONF``, a folder of settings of one's own, which adds to ``conf`` (`conf_file`); its
  folder ``spark``, where it has one, is read in place of ``conf/spark``;
- ``AMPEL_SPARK_JARS`` and ``SNCOSMO_DATA_DIR``, the folders of the jars and of the models; by
  default those that the set-up fetched;
- ``AMPEL_SPARK_LIMITS``, bounds of what is read of files (`ampel_spark.bounds`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from string import Template

from ampel_spark.errors import ConfigError, SetupError, nearest

__all__ = [
    "check_java",
    "check_packages",
    "conf_dir",
    "conf_file",
    "find_conf",
    "is_path",
    "settings",
    "share_dir",
    "sncosmo_data_dir",
    "update_environment",
]

_CURE = "run ./setup.sh in the project's folder"
_JAVA = ("17", "21")  # what Spark 4.1 runs on
_MASTERS = {
    r"local(\[[^\]]+\])?": "local",
    r"local-cluster\[\d+,\d+,\d+\]": "local-cluster",
    r"spark://.+": "standalone",
    r"yarn": "yarn",
    r"k8s://.+": "k8s",
}


def settings(master: str) -> dict[str, str]:
    """Return the Spark properties for `master`, complete with the facts of this machine.

    Parameters
    ----------
    master : str
        ``local[N]``, ``local-cluster[N,CORES,MB]``, ``spark://…``, ``yarn`` or ``k8s://…``.

    Raises
    ------
    ConfigError
        If the master is of an unknown kind, or a line of a file is not ``key value``.
    SetupError
        If the jars or a file of settings is missing.
    """
    kind = _kind(master)
    own = _own_conf()
    folder = (own if own and (own / "spark").is_dir() else conf_dir()) / "spark"
    cores = os.cpu_count() or 1
    facts = {
        "conf": str(folder),
        "cores": str(cores),
        "driver_memory": _driver_memory(),
        "jars": ",".join(map(str, _jars())),
        "python": sys.executable,
        "shuffle_partitions": str(4 * cores),
        "sncosmo_data": str(sncosmo_data_dir()),
    }
    files = [folder / "common.conf", folder / f"{kind}.conf"]
    if more := os.environ.get("AMPEL_SPARK_PROPERTIES"):
        files.append(Path(more))
    merged: dict[str, str] = {}
    for file in files:
        merged |= _read(file, facts)
    if bounds := os.environ.get("AMPEL_SPARK_LIMITS"):
        merged["spark.executorEnv.AMPEL_SPARK_LIMITS"] = bounds
    return merged


def conf_dir() -> Path:
    """Return the folder of the settings that come with the project: ``conf`` beside the package."""
    return Path(__file__).resolve().parents[1] / "conf"


def _own_conf() -> Path | None:
    given = os.environ.get("AMPEL_SPARK_CONF")
    return Path(given).resolve() if given else None


def is_path(source: str) -> bool:
    """Say whether the name of settings is the path of their file: it has a ``/`` or ``.yml``."""
    return "/" in source or source.endswith((".yml", ".yaml"))


def find_conf(kind: str, name: str) -> Path | None:
    """Return the file that `conf_file` returns for a name; None where there is none."""
    files = (folder / f"{name}.yml" for folder in _conf_dirs(kind))
    return next((file for file in files if file.is_file()), None)


def _conf_dirs(kind: str) -> list[Path]:
    return [folder / kind for folder in (_own_conf(), conf_dir()) if folder is not None]


def conf_file(kind: str, source: str) -> Path:
    """Return a file of settings.

    Parameters
    ----------
    kind : str
        Folder of such files in ``conf``, as ``surveys``.
    source : str
        The path of a file (see `is_path`), or the name of one in ``AMPEL_SPARK_CONF`` or in
        ``conf``, looked for in this order.

    Raises
    ------
    ConfigError
        If there is no such file.
    """
    if is_path(source):
        path = Path(source).expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no file {source}: a path counts from the current folder")
        return path
    found = find_conf(kind, source)
    if found is not None:
        return found
    folders = _conf_dirs(kind)
    known = nearest(source, (path.stem for folder in folders for path in folder.glob("*.yml")))
    there = " or ".join(map(str, folders))
    raise ConfigError(f"there is no {source!r} in {there}{known}")


def share_dir() -> Path:
    """Return the folder of this Python environment where the set-up puts jars and model data."""
    return Path(sys.prefix) / "share" / "ampel_spark"


def sncosmo_data_dir() -> Path:
    """Return the folder of models: ``SNCOSMO_DATA_DIR``, or else the set-up's own."""
    return Path(os.environ.get("SNCOSMO_DATA_DIR") or share_dir() / "sncosmo_data")


def update_environment(master: str, properties: Mapping[str, str]) -> None:
    """Set the environment variables that Spark, sncosmo and the numeric libraries read.

    The driver gets the variables of ``spark.executorEnv`` too, unless they are set already.

    Parameters
    ----------
    master : str
        The Spark master.
    properties : mapping of str to str
        Spark properties, as `settings` returns them.
    """
    # another Spark on this machine must not be mixed with the installed pyspark
    os.environ["SPARK_HOME"] = str(metadata.distribution("pyspark").locate_file("pyspark"))
    os.environ["PYSPARK_PYTHON"] = properties["spark.pyspark.python"]
    os.environ["PYSPARK_DRIVER_PYTHON"] = properties["spark.pyspark.driver.python"]
    for key, value in properties.items():
        if key.startswith("spark.executorEnv."):
            os.environ.setdefault(key.removeprefix("spark.executorEnv."), value)
    if _kind(master) in ("local", "local-cluster"):
        # Spark would stop at a host name that cannot be resolved
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")


def check_java() -> None:
    """Raise `SetupError` if Java is absent, or Spark does not support its version."""
    cure = f"install OpenJDK {' or '.join(_JAVA)} and put it on the PATH, or name it by JAVA_HOME"
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin")) if home else None)
    if java is None:
        where = f"in JAVA_HOME, {home}" if home else "on the PATH"
        raise SetupError(f"there is no Java {where}: {cure}")
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', shown)  # "1.8.0_392", or "17.0.15" since Java 9
    version = found[1] if found else "of an unknown version"
    if version not in _JAVA:
        raise SetupError(f"{java} is Java {version}, which Spark does not support: {cure}")


def check_packages() -> None:
    """Raise `SetupError` unless Spark and Delta Lake have the versions that setup.cfg pins."""
    pins = _pins()
    for package in ("pyspark", "delta-spark"):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = "absent"
        if version != pins[package]:
            raise SetupError(
                f"{package} is {version}, where setup.cfg pins {pins[package]}: {_CURE}"
            )


def _kind(master: str) -> str:
    for pattern, kind in _MASTERS.items():
        if re.fullmatch(pattern, master):
            return kind
    raise ConfigError(
        f"no settings for the Spark master {master!r}: give local[*], local-cluster[N,CORES,MB],"
        " spark://HOST:PORT, yarn or k8s://HOST:PORT"
    )


def _read(file: Path, facts: Mapping[str, str]) -> dict[str, str]:
    """Return the ``key value`` lines of a file, with each ``${name}`` replaced by a fact."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SetupError(f"cannot read the Spark settings {file}: {error.strerror}") from None
    properties = {}
    for number, line in enumerate(lines, start=1):
        words = line.split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise ConfigError(f"{file}:{number}: expected 'key value', found {line!r}")
        try:
            properties[words[0]] = Template(words[1].strip()).substitute(facts)
        except (KeyError, ValueError):
            known = ", ".join(f"${{{name}}}" for name in facts)
            raise ConfigError(
                f"{file}:{number}: unknown name in {words[1].strip()!r}; known: {known}"
            ) from None
    return properties


def _jars() -> list[Path]:
    folder = Path(os.environ.get("AMPEL_SPARK_JARS") or share_dir() / "jars").resolve()
    jars = sorted(folder.glob("*.jar"))
    pins = _pins()
    for artifact, package in (("delta-spark", "delta-spark"), ("spark-avro", "pyspark")):
        ending = f"-{pins[package]}.jar"
        if not any(artifact in jar.name and jar.name.endswith(ending) for jar in jars):
            raise SetupError(f"no {artifact} {pins[package]} jar in {folder}: {_CURE}")
    return jars


def _pins() -> dict[str, str]:
    """Return the versions that setup.cfg pins, by the name of the package."""
    try:
        requirements = metadata.requires("ampel_spark") or []
    except metadata.PackageNotFoundError:
        raise SetupError(f"ampel_spark is not installed in {sys.prefix}: {_CURE}") from None
    found = (re.match(r"([\w.-]+)==([\w.]+)", requirement) for requirement in requirements)
    return {match[1]: match[2] for match in found if match}


def _driver_memory() -> str:
    """Return ``AMPEL_SPARK_DRIVER_MEMORY``, or else half of the memory, from 1 to 8 GB."""
    if given := os.environ.get("AMPEL_SPARK_DRIVER_MEMORY"):
        if not re.fullmatch(r"\d+[mg]", given):
            raise ConfigError(f"AMPEL_SPARK_DRIVER_MEMORY is {given!r}: give such as 3000m or 4g")
        return given
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        # a container may have less memory than the machine
        text = Path(limit).read_text().strip() if Path(limit).exists() else ""
        if text.isdigit():
            total = min(total, int(text))
    return f"{min(8192, max(1024, total // 2**21))}m"
