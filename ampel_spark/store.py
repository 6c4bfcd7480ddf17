"""Where a lake is: a folder of this machine, or a prefix in a bucket of an object store.

`place` returns a path for either. A `Remote` has the calls of a `pathlib.Path` that lakes use, so
that code which reads tables and commits to them is one. What only an object store has is
`put_new`: it takes a name if nobody has it, and so a version of a table.

Endpoint, region and credentials are those of the usual environment variables: ``AWS_ENDPOINT_URL``,
``AWS_REGION``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``. Nothing
writes them down.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import importlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PosixPath
from typing import IO, TYPE_CHECKING, Any

from ampel_spark.errors import LakeError, SetupError

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem

__all__ = ["NOT_YET", "Remote", "arrow_file", "delta_table", "place"]

_SCHEME = "s3:/"

_RIGHTS = "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and at what these may do there"


#: What is said of a lake that is asked for what an object store cannot do.
NOT_YET = (
    "is in an object store, where it can be read, and catalogues be added to it; whatever else"
    " writes needs a lake in a folder: copy it, or name another --lake"
)


def place(where: str | Path) -> Path:
    """Return a path: of this machine, or in an object store where it begins with ``s3://``."""
    if isinstance(where, Remote):
        return where
    # A plain path takes two slashes for one.
    return Remote(where) if str(where).startswith(_SCHEME) else Path(where).expanduser()


class Remote(PosixPath):
    """A name in an object store, ``s3://BUCKET/KEY``, with the calls of a path.

    Folders are there where a name begins with theirs; they need not be made.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text.replace(_SCHEME, f"{_SCHEME}/", 1) if text.startswith(_SCHEME) else text

    def __fspath__(self) -> str:
        return str(self)

    def as_posix(self) -> str:
        """Return the name as text."""
        return str(self)

    def is_absolute(self) -> bool:
        """Return True for a name with its bucket."""
        return self.parts[:1] == ("s3:",)

    def resolve(self, strict: bool = False) -> Remote:
        """Return the name itself: there are no links."""
        return self

    def expanduser(self) -> Remote:
        """Return the name itself."""
        return self

    absolute = expanduser

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.parts[1]

    @property
    def key(self) -> str:
        """The name in the bucket."""
        return "/".join(self.parts[2:])

    @property
    def inside(self) -> str:
        """The name as `file_system` has it."""
        return f"{self.bucket}/{self.key}"

    @property
    def file_system(self) -> FileSystem:
        """Arrow's file system of the object store."""
        return _arrow(_endpoint(), _region())

    def exists(self) -> bool:
        """Say whether an object, or a folder, has this name."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Say whether an object has this name."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Say whether objects are below this name."""
        return next(self.iterdir(), None) is not None

    def is_symlink(self) -> bool:
        """Return False: there are no links."""
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return size and time of an object."""
        with _explained(self):
            found = _obstore().head(_store(self.bucket), self.key)
        return _stat(found)

    def read_bytes(self) -> bytes:
        """Return the content of an object."""
        with _explained(self):
            return bytes(_obstore().get(_store(self.bucket), self.key).bytes())

    def read_text(self, encoding: str | None = None, errors: str | None = None, *_: Any) -> str:
        """Return the content of an object as text."""
        return self.read_bytes().decode(encoding or "utf-8")

    def write_bytes(self, data: Any) -> int:
        """Write an object, whatever has its name."""
        with _explained(self):
            _obstore().put(_store(self.bucket), self.key, bytes(data))
        return len(data)

    def write_text(self, data: str, *_: Any, **__: Any) -> int:
        """Write an object, whatever has its name."""
        return self.write_bytes(data.encode())

    def put_new(self, data: bytes) -> bool:
        """Write an object if nothing has its name; say whether this content has it now.

        A server whose answer was lost is asked again, and then finds what it wrote itself.
        """
        try:
            with _explained(self):
                _obstore().put(_store(self.bucket), self.key, data, mode="create")
        except _obstore("exceptions").AlreadyExistsError:
            return self.read_bytes() == data
        return True

    def open(  # type: ignore[override]
        self, mode: str = "r", buffering: int = -1, encoding: str | None = None, *_: Any
    ) -> IO[Any]:
        """Open an object to read or to write; what is written is there once it is closed."""
        if "w" in mode:
            return _Writer(self)
        data = io.BytesIO(self.read_bytes())
        return data if "b" in mode else io.TextIOWrapper(data, encoding or "utf-8")

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove an object."""
        with _explained(self), contextlib.suppress(FileNotFoundError):
            _obstore().delete(_store(self.bucket), self.key)

    def replace(self, target: str | Path) -> Remote:  # type: ignore[override]
        """Give an object another name, whatever has it."""
        other = Remote(target)
        other.write_bytes(self.read_bytes())
        self.unlink()
        return other

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: folders are where names are."""

    def iterdir(self) -> Iterator[Remote]:  # type: ignore[override]
        """Yield what is directly below this name, sorted."""
        with _explained(self):
            found = _obstore().list_with_delimiter(_store(self.bucket), self.key or None)
        names = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        yield from (Remote(f"s3://{self.bucket}/{name}") for name in sorted(names))

    def glob(self, pattern: str, **_: Any) -> Iterator[Remote]:  # type: ignore[override]
        """Yield what is below this name and fits a pattern, as ``*/_delta_log``."""
        first, _slash, rest = pattern.partition("/")
        if any(sign in first for sign in "*?["):
            found = [path for path in self.iterdir() if fnmatch.fnmatch(path.name, first)]
        else:
            found = [self / first]
        for path in found:
            if rest:
                yield from path.glob(rest)
            elif any(sign in first for sign in "*?[") or path.exists():
                yield path

    def rglob(self, pattern: str, **_: Any) -> Iterator[Remote]:  # type: ignore[override]
        """Yield the objects below this name, at any depth, whose last part fits a pattern."""
        names = (Remote(f"s3://{self.bucket}/{each['path']}") for each in self._objects())
        yield from (path for path in names if fnmatch.fnmatch(path.name, pattern))

    def sizes(self) -> dict[str, int]:
        """Return the sizes of all objects below this name, by their whole name: one request."""
        return {f"s3://{self.bucket}/{each['path']}": each["size"] for each in self._objects()}

    def _objects(self) -> Iterator[Any]:
        with _explained(self):
            for batch in _obstore().list(_store(self.bucket), self.key or None):
                yield from batch


class _Writer(io.BytesIO):
    """What is written to an object before it is there."""

    def __init__(self, path: Remote) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.write_bytes(self.getvalue())
        super().close()


def _stat(found: Any) -> os.stat_result:
    when = found["last_modified"].timestamp()
    return os.stat_result((stat.S_IFREG | 0o644, 0, 0, 1, 0, 0, found["size"], when, when, when))


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _region() -> str:
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or "us-east-1"


def _obstore(module: str = "") -> Any:
    """Return the library of object stores, or a module of it; it is no part of the set-up."""
    try:
        return importlib.import_module(f"obstore.{module}" if module else "obstore")
    except ModuleNotFoundError:
        raise SetupError(
            "a lake in an object store needs a package more: .venv/bin/pip install obstore==0.12.1"
        ) from None


def _store(bucket: str) -> Any:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    return _opened(bucket, _endpoint(), _region(), *(os.environ.get(key) for key in keys))


@functools.lru_cache(maxsize=8)
def _opened(bucket: str, endpoint: str | None, region: str, *_credentials: str | None) -> Any:
    given: dict[str, Any] = {"region": region}
    if endpoint is not None:
        given["endpoint"] = endpoint
    plain = (endpoint or "").startswith("http:")
    return _obstore("store").S3Store(bucket, **given, client_options={"allow_http": plain})


@contextlib.contextmanager
def _explained(path: Remote) -> Iterator[None]:
    """Raise `LakeError` in place of what a store says, in one sentence."""
    wrong = _obstore("exceptions")
    where = f"s3://{path.bucket} at {_endpoint() or 'AWS'}"
    try:
        yield
    except (wrong.AlreadyExistsError, FileNotFoundError):
        raise
    except (wrong.PermissionDeniedError, wrong.UnauthenticatedError):
        raise LakeError(f"{where} refuses {path}: {_RIGHTS}") from None
    except wrong.BaseError as error:
        said = str(error).partition("\n")[0][:300]
        if "403 Forbidden" in said:  # of a list, it is a generic error
            raise LakeError(f"{where} refuses {path}: {_RIGHTS}") from None
        raise LakeError(f"{where} cannot be reached: {said}") from None


@functools.lru_cache(maxsize=8)
def _arrow(endpoint: str | None, region: str) -> Any:
    from pyarrow import fs

    scheme, _, host = (endpoint or "").partition("://")
    given = {"endpoint_override": host, "scheme": scheme} if endpoint else {}
    return fs.S3FileSystem(region=region, **given)


def arrow_file(path: str | Path) -> Any:
    """Return what Arrow opens as a Parquet file: a path, or an open object."""
    where = place(path)
    if not isinstance(where, Remote):
        return str(where)
    if not where.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(where))
    return where.file_system.open_input_file(where.inside)


def delta_table(table: str | Path, version: int | None = None) -> DeltaTable:
    """Return a Delta table, or a version of it, as `deltalake` opens it."""
    from deltalake import DeltaTable

    return DeltaTable(str(table), version=version, storage_options=_options(place(table)))


def _options(path: Path) -> dict[str, str] | None:
    if not isinstance(path, Remote):
        return None
    options = {"AWS_REGION": _region()}
    if endpoint := _endpoint():
        options |= {"AWS_ENDPOINT_URL": endpoint}
        options |= {"AWS_ALLOW_HTTP": "true"} if endpoint.startswith("http:") else {}
    return options
