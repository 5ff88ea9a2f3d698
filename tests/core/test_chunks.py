"""The chunked coding: what is read, however it is cut, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.chunks import BadChunks, ChunkReader, Strictness, encode_chunk, encode_end, forwardable
from isr_proxy.core.http import Fields
from tests.core.making import fields

VALUES = st.from_regex(rb"[\x21-\x7e\x80-\xff]{0,9}", fullmatch=True)
TRAILERS = st.lists(st.tuples(st.sampled_from([b"X-A", b"x-b", b"Sum"]), VALUES), max_size=5)


def read(raw: bytes, strictness: Strictness = Strictness.STRICT, *, step: int = 1000) -> ChunkReader:
    reader = ChunkReader(strictness)
    for start in range(0, len(raw), step):
        reader.feed(raw[start : start + step])
    return reader


@given(st.lists(st.binary(min_size=1)), TRAILERS, st.binary(), st.integers(1, 50))
def test_what_is_written_is_read(
    parts: list[bytes], trailers: list[tuple[bytes, bytes]], rest: bytes, step: int
) -> None:
    raw = b"".join(map(encode_chunk, parts)) + encode_end(Fields(trailers)) + rest
    reader = ChunkReader(Strictness.STRICT)
    content, fed = b"", 0
    while not reader.is_complete:
        content += reader.feed(raw[fed : fed + step])
        fed += step
    assert content == b"".join(parts)
    assert reader.trailers == Fields(trailers)
    assert reader.rest + raw[fed:] == rest


@given(st.binary())
def test_bytes_of_any_kind_are_read_or_refused(raw: bytes) -> None:
    for strictness in Strictness:
        try:
            read(raw, strictness)
        except BadChunks:
            pass


BAD = [
    b"\r\n",
    b"x\r\n",
    b"-1\r\n",
    b"+1\r\na\r\n0\r\n\r\n",
    b"0x1\r\na\r\n0\r\n\r\n",
    b"1_0\r\n",
    b" 1\r\na",
    b"1\na\r\n",
    b"1\r\na\n0\r\n\r\n",
    b"1\r\nab\r\n0\r\n\r\n",
    b"1\r\na0\r\n\r\n",
    b"1;a\x00b\r\n",
    b"1;a\rb\r\n",
    b"1111111111111111\r\n",
    b"0\r\nA : 1\r\n\r\n",
    b"0\r\n: 1\r\n\r\n",
    b"0\r\nA: 1\n\r\n",
    b"0\r\nA: 1\r\n folded\r\n\r\n",
    b"0\r\nA: a\rb\r\n\r\n",
    b"0\r\nA: a\x00\r\n\r\n",
    b"0\r\n\n",
    b"0\r\nContent-Length: 1\r\n\r\n",
    b"0\r\nTRANSFER-ENCODING: chunked\r\n\r\n",
    b"1;" + b"a" * 5000,
    b"0\r\nA: " + b"a" * 9000,
    b"0\r\n" + b"A: 1\r\n" * 65 + b"\r\n",
]


@pytest.mark.parametrize("raw", BAD)
@pytest.mark.parametrize("strictness", Strictness)
def test_what_is_refused(raw: bytes, strictness: Strictness) -> None:
    with pytest.raises(BadChunks):
        read(raw, strictness)


def test_blanks_behind_a_size_are_an_origins_to_write() -> None:
    assert read(b"1  \r\na\r\n0 \r\n\r\n", Strictness.PADDED).is_complete
    with pytest.raises(BadChunks):
        read(b"1  \r\na\r\n0 \r\n\r\n")


@pytest.mark.parametrize("extension", [b";a", b" ;\ta = b", b';a="x;\\"\xff";b=c', b";a=b;c"])
def test_extensions_are_left_out(extension: bytes) -> None:
    assert read(b"1" + extension + b"\r\na\r\n0" + extension + b"\r\n\r\n").is_complete


@pytest.mark.parametrize("extension", [b";", b";=a", b";a=", b';a="', b";a b", b",a", b';a="x"y'])
def test_extensions_that_are_none_are_a_visitors_fault(extension: bytes) -> None:
    with pytest.raises(BadChunks):
        read(b"1" + extension + b"\r\na\r\n0\r\n\r\n")


def test_trailers_that_may_go_on() -> None:
    said = fields("X: 1 | Content-Length: 1 | Host: a | Proxy-X: 1 | Content_Type: a | Named: 1 | X: 2")
    assert forwardable(said, frozenset({b"named"})) == fields("X: 1 | X: 2")
