"""A real S3 server for tests: versitygw, built by Go once and kept in the user's cache.

It serves a folder as buckets, so that what is in a lake can be looked at from both sides.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["KEY", "SECRET", "VERSION", "serving", "versitygw"]

VERSION = "v1.8.0"
KEY, SECRET = "tester", "of-lakes-in-buckets"
_MODULE = "github.com/versity/versitygw/cmd/versitygw"


def versitygw() -> Path | str:
    """Return the server's program, or why there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ampel_spark-tests"
    program = cache / f"versitygw-{VERSION}"
    if program.is_file():
        return program
    if os.environ.get("AMPEL_SPARK_TEST_S3") != "build":
        return f"{program} is not there: AMPEL_SPARK_TEST_S3=build builds it, by Go, in minutes"
    go = shutil.which("go")
    if go is None:
        return "no Go here to build versitygw"
    built = cache / "bin"
    done = subprocess.run(
        [go, "install", f"{_MODULE}@{VERSION}"],
        env=os.environ | {"GOBIN": str(built)}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        return f"Go could not build versitygw: {done.stderr[-300:]}"
    (built / "versitygw").replace(program)
    return program


@contextlib.contextmanager
def serving(program: Path, root: Path) -> Iterator[str]:
    """Serve a folder, each folder in it a bucket, and give the address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    environment = os.environ | {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    server = subprocess.Popen(
        [str(program), "--port", f"127.0.0.1:{port}", "posix", str(root)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)
