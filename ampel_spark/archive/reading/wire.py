"""Avro as it goes over the wire: container files, and records whose schema is elsewhere.

Beside containers, which hold their schema, packets are found with Confluent's header (a zero byte
and the number of a schema in some registry), in single-object encoding (the schema's fingerprint),
and without anything. These can be read where the schema is at hand (``ingest --schema FILE``).
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from ampel_spark.archive.reading.values import BadPacket
from ampel_spark.errors import ConfigError
from ampel_spark.packed import described

__all__ = ["read_schema", "records"]

_CONTAINER, _CONFLUENT, _SINGLE = b"Obj\x01", b"\x00", b"\xc3\x01"


def read_schema(path: str | Path) -> str:
    """Return the schema [JSON] in a file: an ``.avsc``, or the one that an Avro container has.

    Raises
    ------
    ConfigError
        If the file is not there, or holds no Avro schema.
    """
    try:
        data = Path(path).read_bytes()
        if data[:4] == _CONTAINER:
            text = json.dumps(fastavro.reader(io.BytesIO(data)).writer_schema)
        else:
            text = data.decode()
        _parsed(text)
    except OSError as error:
        raise ConfigError(f"--schema {path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # whatever the libraries make of a file that is no schema
        raise ConfigError(
            f"--schema {path}: is no Avro schema: {type(error).__name__}: {error}; give an .avsc"
            " file (JSON), or an Avro file that has the schema"
        ) from None
    return text


def records(
    name: str, data: bytes, schema: str | None = None
) -> Iterator[tuple[str, Any | BadPacket]]:
    """Yield the records in some bytes, nearly always one; names tell later ones apart.

    Parameters
    ----------
    name : str
        Of the member.
    data : bytes
    schema : str, optional
        Schema [JSON] of what is no container.

    Yields
    ------
    name : str
    record : object or BadPacket
        The latter says why there is none, or not another one.
    """
    if data[:4] != _CONTAINER:
        yield name, _alone(data, schema)
        return
    count = 0
    try:
        # Text that is no UTF-8 is seen where it is used, field by field.
        for record in fastavro.reader(io.BytesIO(data), handle_unicode_errors="surrogateescape"):
            count += 1
            yield name if count == 1 else f"{name}#{count}", record
    except Exception as error:  # whatever the decoder makes of damaged bytes is one bad packet
        reason = "truncated" if isinstance(error, EOFError | IndexError) else "not_avro"
        # An address in memory would be another every time.
        text = re.sub(r" from <[^>]*>| at 0x[0-9a-f]+", "", str(error))
        member = name if count == 0 else f"{name}#{count + 1}"
        yield member, BadPacket(reason, f"Avro: {type(error).__name__}: {text}")
        return
    if count == 0:
        yield name, BadPacket("truncated", "an Avro container without a packet")


def _alone(data: bytes, schema: str | None) -> Any | BadPacket:
    """Return a record that has no schema with it, or what is wrong."""
    what, begin = _form(data)
    if schema is None or begin is None:
        reason = "truncated" if _CONTAINER.startswith(data[:4]) else "not_avro"
        cure = "" if begin is None else ": the schema is not in the file; give it, --schema FILE"
        return BadPacket(
            reason, f"{len(data)} bytes that do not begin as an Avro container does: {what}{cure}"
        )
    own = fingerprint(to_parsing_canonical_form(_parsed(schema)), "CRC-64-AVRO")
    if data[:2] == _SINGLE and int(own, 16) != int.from_bytes(data[2:10], "little"):
        return BadPacket("wrong_schema", f"{what}: --schema has another fingerprint, {own}")
    stream = io.BytesIO(data[begin:])
    try:
        record = fastavro.schemaless_reader(
            stream, _parsed(schema), None, handle_unicode_errors="surrogateescape"
        )
    except Exception as error:  # whatever the decoder makes of bytes of another schema
        text = f"{type(error).__name__}: {error}"
        return BadPacket("wrong_schema", f"{what}: it does not fit --schema: {text}"[:400])
    if rest := len(data) - begin - stream.tell():
        return BadPacket("wrong_schema", f"{what}: it does not fit --schema: {rest} bytes are left")
    return record


def _form(data: bytes) -> tuple[str, int | None]:
    """Return what bytes are, and where a record without a schema begins in them, if anywhere."""
    if not data:
        return "nothing at all", None
    if data[:1] == _CONFLUENT and len(data) > 5:
        return f"Confluent header, schema id {int.from_bytes(data[1:5], 'big')}", 5
    if data[:2] == _SINGLE and len(data) > 10:
        number = int.from_bytes(data[2:10], "little")
        return f"single-object encoding, schema fingerprint {number:016x}", 10
    known = described(data[:512])
    if known is not None:
        return known, None
    if _CONTAINER.startswith(data[:4]):
        return "the beginning of one", None
    return "perhaps a schemaless record", 0


@functools.cache
def _parsed(schema: str) -> Any:
    return fastavro.parse_schema(json.loads(schema))
