"""Entry, Meta, State: one stored response, and the bytes of its file.

Knows the versioned file format and how to tell a whole entry from a broken one. Must not open files.

    offset 0      header   magic, version, where the meta lies, its length and checksum
    offset 64     state A  what changes without a new body: freshened, failed, retry, sequence
    offset 192    state B  the other copy; of the valid ones the higher count is true
    offset 320    bodies   identity first, then the encodings made from it
    ...           meta     msgpack, at the end because it names what came before

A state is overwritten in place, never both copies at once: a torn write leaves the older one (the
two-slot commit of databases). Everything else of a file is written once, before its rename.
"""

from __future__ import annotations

import math
import struct
from hashlib import blake2b, sha256
from typing import Final, Protocol
from zlib import crc32

import msgspec

from isr_proxy.core.http import Fields, Line
from isr_proxy.core.key import Dimension, Key, Variant
from isr_proxy.core.value import Value
from isr_proxy.errors import BadEntry

MAGIC: Final = b"ISRPAGE1"
VARY_MAGIC: Final = b"ISRVARY1"
STATE_OFFSETS: Final = (64, 192)
BODIES_OFFSET: Final = 320

_HEADER: Final = struct.Struct("<8sQQI")  # magic, meta offset, meta bytes, crc32 of the meta
HEADER_BYTES: Final = _HEADER.size
_STATE: Final = struct.Struct("<QQdddddI32s")
_COUNT: Final = struct.Struct("<Q")  # the first field of a state
_CRC: Final = struct.Struct("<I")


class OriginTimes(msgspec.Struct, frozen=True):
    """What the origin's headers say of freshness; seconds, None where they say nothing."""

    ttl: float | None = None
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None
    forbids_stale: bool = False  # must-revalidate, proxy-revalidate, s-maxage (RFC 9111 §4.2.4)
    must_validate: bool = False  # no-cache

    @property
    def is_validated_only(self) -> bool:
        """Tell whether, once stale, only the origin may say that it is still right."""
        return self.forbids_stale or self.must_validate

    @property
    def is_for_one(self) -> bool:
        """Tell whether each request must be validated by itself (RFC 9111 §5.2.2.2, §5.2.2.4)."""
        return self.must_validate or (self.forbids_stale and self.ttl == 0)


class BodyRef(msgspec.Struct, frozen=True):
    """Where one encoding of the body lies in the file. `checksum` is as `hasher_like` says."""

    encoding: str
    offset: int
    size: int
    checksum: bytes


class Partial(msgspec.Struct, frozen=True):
    """Which bytes [start, stop) of a representation the body has, one behind the other."""

    whole_bytes: int
    spans: tuple[tuple[int, int], ...]


class Meta(msgspec.Struct, frozen=True):
    """Everything of a stored response that is fixed until its body changes."""

    scheme: str
    host: str
    path: str
    query: str | None
    dimensions: tuple[Dimension, ...]
    vary: tuple[Dimension, ...]
    status: int
    reason: str
    lines: tuple[Line, ...]
    tags: tuple[str, ...]
    etag: str
    last_modified: str | None
    origin_times: OriginTimes
    generated_at: float
    bodies: tuple[BodyRef, ...] = ()
    partial: Partial | None = None  # of an entry that has parts of a page only
    asked: str | None = None  # the query that the origin was asked with, where the key's is shorter

    @property
    def key(self) -> Key:
        return Key(self.scheme, self.host, self.path, self.query, self.dimensions)

    @property
    def asked_key(self) -> Key:
        """Return the key of what the origin was asked for."""
        query = self.query if self.asked is None else self.asked
        return Key(self.scheme, self.host, self.path, query, self.dimensions)

    @property
    def variant(self) -> Variant:
        return Variant(self.vary)

    @property
    def fields(self) -> Fields:
        return Fields(self.lines)

    @property
    def body_bytes(self) -> int:
        """Size of the identity body."""
        return self.bodies[0].size if self.bodies else 0

    @property
    def body_checksum(self) -> bytes:
        return self.bodies[0].checksum if self.bodies else b""

    def body(self, encoding: str) -> BodyRef:
        """Return where an encoding lies; KeyError when it was not made."""
        for ref in self.bodies:
            if ref.encoding == encoding:
                return ref
        raise KeyError(encoding)


class State(Value, frozen=True):
    """What changes without a new body. Instants are Unix times; fetch and retry are two (law 7)."""

    sequence: int  # of the purge log, seen before the fetch began (law 2)
    fetched_at: float  # when the head of the answer, or the 304, came
    initial_age: float = 0.0  # RFC 9111 §4.2.3 corrected_initial_age
    stale_at: float = math.inf  # when a soft purge, already swept, made it stale
    retry_at: float = 0.0  # no regeneration before; 0 when the last one succeeded
    failed_at: float = 0.0
    failures: int = 0
    last_error: str = ""  # a Reason's value
    count: int = 0  # how often the state was written; chooses between the copies


def encode_state(state: State) -> bytes:
    """Return one state copy, STATE_BYTES long, its checksum last."""
    raw = _STATE.pack(
        state.count,
        state.sequence,
        state.fetched_at,
        state.initial_age,
        state.stale_at,
        state.retry_at,
        state.failed_at,
        state.failures,
        state.last_error.encode("ascii", "replace")[:32],
    )
    return raw + _CRC.pack(crc32(raw))


STATE_BYTES: Final = _STATE.size + _CRC.size


def state_offset(count: int) -> int:
    """Return where the state of this count is written: the copies take turns."""
    return STATE_OFFSETS[count % 2]


def decode_state(head: bytes | memoryview) -> State:
    """Return the true state from a file's first BODIES_OFFSET bytes; BadEntry when neither copy is whole."""
    if len(head) < BODIES_OFFSET:
        raise BadEntry("shorter than its states")
    first, second = STATE_OFFSETS
    if _COUNT.unpack_from(head, second) > _COUNT.unpack_from(head, first):
        first, second = second, first
    state = _decode_copy(head, first) or _decode_copy(head, second)
    if state is None:
        raise BadEntry("no whole state")
    return state


def _decode_copy(head: bytes | memoryview, offset: int) -> State | None:
    raw = bytes(head[offset : offset + STATE_BYTES])
    if _CRC.unpack_from(raw, _STATE.size)[0] != crc32(raw[: _STATE.size]):
        return None
    count, sequence, fetched, age, stale, retry, failed, failures, error = _STATE.unpack_from(raw)
    word = error.rstrip(b"\0").decode("ascii", "replace")
    return State(sequence, fetched, age, stale, retry, failed, failures, word, count)


def encode_header(meta: bytes, meta_offset: int, magic: bytes = MAGIC) -> bytes:
    """Return the header of a file whose meta lies at `meta_offset`."""
    return _HEADER.pack(magic, meta_offset, len(meta), crc32(meta)).ljust(STATE_OFFSETS[0], b"\0")


class Header(Value, frozen=True):
    """Where the meta of a file lies, and what it must hash to."""

    magic: bytes
    meta_offset: int
    meta_bytes: int
    meta_crc: int


def decode_header(head: bytes | memoryview) -> Header:
    """Read a file's header; BadEntry when it is not one of ours."""
    if len(head) < _HEADER.size:
        raise BadEntry("shorter than a header")
    magic, offset, size, crc = _HEADER.unpack_from(head)
    if magic not in (MAGIC, VARY_MAGIC):
        raise BadEntry(f"unknown magic {magic!r}")
    return Header(magic, offset, size, crc)


_META_ENCODER: Final = msgspec.msgpack.Encoder()
_META_DECODER: Final = msgspec.msgpack.Decoder(Meta)


def encode_meta(meta: Meta) -> bytes:
    return _META_ENCODER.encode(meta)


def decode_meta(raw: bytes | memoryview, header: Header) -> Meta:
    """Read a meta; BadEntry when its checksum or its shape is wrong."""
    _check_meta(raw, header, MAGIC)
    try:
        return _META_DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEntry(f"meta: {error}") from error


def _check_meta(raw: bytes | memoryview, header: Header, magic: bytes) -> None:
    if header.magic != magic:
        raise BadEntry(f"magic {header.magic!r} where {magic!r} was expected")
    if len(raw) != header.meta_bytes or crc32(raw) != header.meta_crc:
        raise BadEntry("meta checksum")


class Hasher(Protocol):
    """A checksum in the making."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


def hasher() -> Hasher:
    """Return what makes the checksum that a BodyRef carries.

    SHA-256, as most processors have instructions for it: a third of what BLAKE2 takes.
    """
    return sha256(usedforsecurity=False)


def hasher_like(checksum: bytes) -> Hasher:
    """Return what made a checksum: one of 16 bytes is a BLAKE2b, as older files have it."""
    return blake2b(digest_size=_BLAKE2_BYTES) if len(checksum) == _BLAKE2_BYTES else hasher()


_BLAKE2_BYTES: Final = 16


def checksum(body: bytes | memoryview) -> bytes:
    """Return the checksum a BodyRef carries."""
    made = hasher()
    made.update(body)
    return made.digest()


def shown(checksum: bytes) -> str:
    """Return as much of a checksum as tells two bodies apart: 32 digits."""
    return checksum[:_SHOWN_BYTES].hex()


_SHOWN_BYTES: Final = 16


# --- the index of a key whose responses vary ---


class VaryIndex(msgspec.Struct, frozen=True):
    """What lies at a key's own place when its responses vary: the names, and the variants stored."""

    scheme: str
    host: str
    path: str
    query: str | None
    dimensions: tuple[Dimension, ...]
    names: tuple[str, ...]  # lower case, sorted
    variants: tuple[bytes, ...] = ()  # digests, oldest first

    @property
    def key(self) -> Key:
        return Key(self.scheme, self.host, self.path, self.query, self.dimensions)


_VARY_DECODER: Final = msgspec.msgpack.Decoder(VaryIndex)


def encode_vary_index(index: VaryIndex) -> bytes:
    """Return the whole file of an index."""
    raw = _META_ENCODER.encode(index)
    return encode_header(raw, BODIES_OFFSET, VARY_MAGIC).ljust(BODIES_OFFSET, b"\0") + raw


def decode_vary_index(raw: bytes | memoryview, header: Header) -> VaryIndex:
    _check_meta(raw, header, VARY_MAGIC)
    try:
        return _VARY_DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEntry(f"vary index: {error}") from error
