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
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from ampel_spark.archive.reading.avro import blocks_of, decode, payload_of, snappy_length
from ampel_spark.archive.reading.tars import Unread
from ampel_spark.archive.reading.values import BadPacket
from ampel_spark.bounds import cure, most_unpacked
from ampel_spark.errors import ConfigError
from ampel_spark.packed import described, opened

__all__ = ["NO_PACKET", "holds_nothing", "read_schema", "records"]

_CONTAINER, _CONFLUENT, _SINGLE = b"Obj\x01", b"\x00", b"\xc3\x01"

#: What is said of a container with a schema, and nothing behind it.
NO_PACKET = "an Avro container without a packet"

# How a container begins.
_HEADER = fastavro.parse_schema(
    {
        "type": "record",
        "name": "header",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
            {"name": "sync", "type": {"type": "fixed", "name": "sync", "size": 16}},
        ],
    }
)


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
    if isinstance(data, Unread):
        yield name, BadPacket("too_large", data.why)
        return
    if data[:4] != _CONTAINER:
        yield name, _alone(data, schema)
        return
    found = (record for part in _containers(data) for record in _of_container(part))
    for count, record in enumerate(found, start=1):
        yield name if count == 1 else f"{name}#{count}", record


def _containers(data: bytes) -> list[bytes]:
    """Return the containers that stand one behind the other in some bytes; nearly always one."""
    parts: list[bytes] = []
    while True:
        try:
            header: Any = fastavro.schemaless_reader(io.BytesIO(data), _HEADER, None)
            sync: bytes = header["sync"]
        except Exception:  # who decodes it says what is damaged
            return [*parts, data]
        end = data.find(sync + _CONTAINER) + len(sync)
        if end < len(sync):
            return [*parts, data]
        parts.append(data[:end])
        data = data[end:]


def holds_nothing(data: bytes) -> bool:
    """Say whether some bytes are a container with a schema, and nothing behind it."""
    stream = io.BytesIO(data)
    try:
        fastavro.schemaless_reader(stream, _HEADER, None)
    except Exception:  # who decodes it says what is damaged
        return False
    return data[:4] == _CONTAINER and stream.tell() == len(data)


def _of_container(data: bytes) -> Iterator[Any | BadPacket]:
    """Yield the records of a container, and at last what is wrong with the next one."""
    if why := _endless(data):
        yield BadPacket("too_large", why)
        return
    count = 0
    try:
        # Text that is no UTF-8 is seen where it is used, field by field.
        for record in fastavro.reader(io.BytesIO(data), handle_unicode_errors="surrogateescape"):
            count += 1
            yield record
    except Exception as error:  # whatever the decoder makes of damaged bytes is one bad packet
        reason = "truncated" if isinstance(error, EOFError | IndexError) else "not_avro"
        # An address in memory would be another every time.
        text = re.sub(r" from <[^>]*>| at 0x[0-9a-f]+", "", str(error))
        yield BadPacket(reason, f"Avro: {type(error).__name__}: {text}")
        return
    if count == 0:
        yield BadPacket("truncated", NO_PACKET)


def _endless(data: bytes) -> str | None:
    """Return why a container would become very large, or have no end, when it is read."""
    room = most_unpacked("packet", len(data))
    try:
        for codec, count, block in blocks_of(data):
            size = _unpacked_size(codec, block, room)
            room -= size
            # A record takes a byte, or there could be no end of them.
            if room < 0 or count > size:
                return (
                    f"{len(data)} bytes become {count} packets in {size} or more: {cure('packet')}"
                )
        schema = json.loads(fastavro.reader(io.BytesIO(data)).metadata["avro.schema"])
        named: dict[str, Any] = {}
        if any(_takes_no_byte(items, named) for items in _items(schema, named)):
            found = payload_of(data)
            if found is not None and decode(found[0], [found[1]]).good[0]:
                return None  # there are no more of them than bytes
            return "its schema has a list of what takes no byte, which could have no end"
    except Exception:  # fastavro says in its own words what is damaged
        return None
    return None


def _unpacked_size(codec: str, block: memoryview, room: int) -> int:
    """Return how many bytes a block becomes; where it is more than `room`, a number above it."""
    if codec == "deflate":
        return len(zlib.decompressobj(-15).decompress(block, room + 1))
    if codec == "snappy":
        return snappy_length(block)
    if codec in ("bzip2", "xz", "zstandard"):
        size = 0
        for piece in opened([bytes(block)]):
            size += len(piece)
            if size > room:
                break
        return size
    return len(block)


def _items(schema: Any, named: dict[str, Any]) -> Iterator[Any]:
    """Yield what lists and maps are of, anywhere in a schema; fill in its named types."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _items(branch, named)
    elif isinstance(schema, dict):
        if "name" in schema:
            named[str(schema["name"])] = schema
        for field in schema.get("fields", ()):
            yield from _items(field["type"], named)
        for key in ("items", "type"):
            if isinstance(schema.get(key), dict | list):
                yield from _items(schema[key], named)
        if "items" in schema:
            yield schema["items"]


def _takes_no_byte(schema: Any, named: Mapping[str, Any]) -> bool:
    if isinstance(schema, str):
        return schema == "null" or (schema in named and _takes_no_byte(named[schema], named))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "record":
        return all(_takes_no_byte(field["type"], named) for field in schema.get("fields", ()))
    if schema.get("type") == "fixed":
        return int(schema["size"]) <= 0
    return _takes_no_byte(schema.get("type"), named)


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
