"""The file format: what was written is read back; what was damaged is never read as something else."""

from __future__ import annotations

import string
from dataclasses import replace
from hashlib import blake2b, sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from isr_proxy.core.entry import (
    BODIES_OFFSET,
    HEADER_BYTES,
    MAGIC,
    STATE_BYTES,
    STATE_OFFSETS,
    VARY_MAGIC,
    BodyRef,
    Meta,
    OriginTimes,
    State,
    VaryIndex,
    checksum,
    decode_header,
    decode_meta,
    decode_state,
    decode_vary_index,
    encode_header,
    encode_meta,
    encode_state,
    encode_vary_index,
    hasher_like,
    shown,
    state_offset,
)
from isr_proxy.core.key import Key, Variant
from isr_proxy.core.reason import Reason
from isr_proxy.errors import BadEntry
from tests.core.making import meta

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INSTANT = st.floats(allow_nan=False)
COUNT = st.integers(0, 2**64 - 1)
STATES = st.builds(
    State,
    COUNT,
    INSTANT,
    INSTANT,
    INSTANT,
    INSTANT,
    INSTANT,
    st.integers(0, 2**32 - 1),
    st.sampled_from(["", *(reason.value for reason in Reason)]),
    COUNT,
)
DIMENSIONS = st.lists(st.tuples(TEXT, TEXT | st.none()), max_size=2).map(tuple)
SECONDS = st.none() | st.floats(0)
METAS = st.builds(
    Meta,
    scheme=TEXT,
    host=TEXT,
    path=TEXT,
    query=TEXT | st.none(),
    dimensions=DIMENSIONS,
    vary=DIMENSIONS,
    status=st.integers(100, 599),
    reason=TEXT,
    lines=st.lists(st.tuples(st.binary(), st.binary()), max_size=3).map(tuple),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    etag=TEXT,
    last_modified=TEXT | st.none(),
    origin_times=st.builds(OriginTimes, SECONDS, SECONDS, SECONDS, st.booleans(), st.booleans()),
    generated_at=INSTANT,
    bodies=st.lists(st.builds(BodyRef, TEXT, COUNT, COUNT, st.binary()), max_size=2).map(tuple),
)
INDEXES = st.builds(
    VaryIndex,
    TEXT,
    TEXT,
    TEXT,
    TEXT | st.none(),
    DIMENSIONS,
    st.lists(TEXT, max_size=3).map(tuple),
    st.lists(st.binary(), max_size=3).map(tuple),
)


def flipped(raw: bytes, bit: int) -> bytes:
    place, shift = divmod(bit % (8 * len(raw)), 8)
    return raw[:place] + bytes([raw[place] ^ 1 << shift]) + raw[place + 1 :]


# --- the state and its two copies ---


def file_head(*states: State) -> bytes:
    """The first bytes of a file into which these states were written, one after the other."""
    head = bytearray(BODIES_OFFSET)
    for state in states:
        offset = state_offset(state.count)
        head[offset : offset + STATE_BYTES] = encode_state(state)
    return bytes(head)


@given(STATES)
def test_a_state_is_read_as_it_was_written(state: State) -> None:
    assert decode_state(file_head(state)) == state


@given(STATES, st.integers(0, 2**64 - 2))
def test_the_younger_of_two_copies_is_true(state: State, count: int) -> None:
    older, younger = replace(state, count=count), replace(state, count=count + 1, sequence=7)
    assert decode_state(file_head(older, younger)) == younger


@given(STATES, st.integers(0, 2**64 - 2), st.integers(0, STATE_BYTES))
def test_law_5_a_torn_write_leaves_the_older_copy(state: State, count: int, torn: int) -> None:
    older, younger = replace(state, count=count), replace(state, count=count + 1, sequence=7)
    head = bytearray(file_head(older))
    start = state_offset(younger.count)
    head[start : start + torn] = encode_state(younger)[:torn]
    assert decode_state(bytes(head)) in (older, younger)


@given(STATES, st.integers(0, 2**64 - 2), st.integers(0))
def test_law_5_a_flipped_bit_never_gives_another_state(state: State, count: int, bit: int) -> None:
    older, younger = replace(state, count=count), replace(state, count=count + 1, sequence=7)
    assert decode_state(flipped(file_head(older, younger), bit)) in (older, younger)
    with pytest.raises(BadEntry):
        decode_state(bytes(STATE_OFFSETS[0]) + flipped(encode_state(older), bit))


def test_the_copies_take_turns_and_do_not_touch() -> None:
    assert [state_offset(count) for count in range(4)] == [*STATE_OFFSETS, *STATE_OFFSETS]
    assert STATE_OFFSETS[0] >= HEADER_BYTES
    assert STATE_OFFSETS[0] + STATE_BYTES <= STATE_OFFSETS[1]
    assert STATE_OFFSETS[1] + STATE_BYTES <= BODIES_OFFSET


@given(st.binary(max_size=400))
def test_no_bytes_make_reading_raise_anything_but_bad_entry(raw: bytes) -> None:
    for decode in (decode_state, decode_header):
        try:
            decode(raw)
        except BadEntry:
            continue


# --- the meta ---


@given(METAS)
def test_a_meta_is_read_as_it_was_written(page: Meta) -> None:
    raw = encode_meta(page)
    header = decode_header(encode_header(raw, 1234))
    assert decode_meta(raw, header) == page
    assert (header.magic, header.meta_offset, header.meta_bytes) == (MAGIC, 1234, len(raw))


@given(METAS, st.integers(0))
def test_law_5_a_flipped_bit_in_a_meta_is_a_bad_entry(page: Meta, bit: int) -> None:
    raw = encode_meta(page)
    header = decode_header(encode_header(raw, 0))
    with pytest.raises(BadEntry):
        decode_meta(flipped(raw, bit), header)


@given(METAS, st.integers(0, 8 * HEADER_BYTES - 1))
def test_law_5_a_flipped_bit_in_a_header_never_gives_another_meta(page: Meta, bit: int) -> None:
    raw = encode_meta(page)
    try:
        header = decode_header(flipped(encode_header(raw, 0), bit))
        assert decode_meta(raw, header) == page
    except BadEntry:
        return
    assert header.meta_offset != 0


@given(st.binary())
def test_bytes_with_the_right_checksum_and_the_wrong_shape_are_a_bad_entry(raw: bytes) -> None:
    with pytest.raises(BadEntry):
        decode_meta(raw, decode_header(encode_header(raw, 0)))


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1])
def test_a_file_shorter_than_its_header_is_a_bad_entry(size: int) -> None:
    with pytest.raises(BadEntry):
        decode_header(MAGIC.ljust(size)[:size])


def test_bytes_that_are_no_text_are_kept_in_lines() -> None:
    page = structs.replace(meta(), lines=((b"X\xff", b"\x00\xff\xc3"),))
    raw = encode_meta(page)
    assert decode_meta(raw, decode_header(encode_header(raw, 0))).lines == page.lines


def test_a_meta_knows_its_key_and_bodies() -> None:
    bodies = (BodyRef("identity", 320, 5, b"i"), BodyRef("br", 325, 3, b"b"))
    page = structs.replace(meta(), bodies=bodies, vary=(("a", None),))
    assert page.key == Key("http", "example.org", "/page")
    assert page.variant == Variant((("a", None),))
    assert (page.body_bytes, page.body_checksum, page.body("br").offset) == (5, b"i", 325)
    with pytest.raises(KeyError):
        page.body("gzip")


def test_a_meta_without_bodies_is_empty() -> None:
    assert (meta().body_bytes, meta().body_checksum) == (0, b"")


# --- the index of variants ---


def index_parts(raw: bytes) -> tuple[bytes, Any]:
    return raw[BODIES_OFFSET:], decode_header(raw)


@given(INDEXES)
def test_an_index_is_read_as_it_was_written(index: VaryIndex) -> None:
    raw, header = index_parts(encode_vary_index(index))
    assert decode_vary_index(raw, header) == index
    assert header.meta_offset == BODIES_OFFSET


@given(INDEXES, st.integers(0))
def test_law_5_a_flipped_bit_in_an_index_is_a_bad_entry(index: VaryIndex, bit: int) -> None:
    raw, header = index_parts(encode_vary_index(index))
    with pytest.raises(BadEntry):
        decode_vary_index(flipped(raw, bit), header)


def test_an_index_is_not_taken_for_a_page_nor_a_page_for_an_index() -> None:
    raw = encode_meta(meta())
    with pytest.raises(BadEntry):
        decode_vary_index(raw, decode_header(encode_header(raw, 0)))
    with pytest.raises(BadEntry):
        decode_meta(raw, decode_header(encode_header(raw, 0, VARY_MAGIC)))


def test_an_index_with_the_wrong_shape_is_a_bad_entry() -> None:
    raw = encode_meta(meta())
    with pytest.raises(BadEntry):
        decode_vary_index(raw[:-1], decode_header(encode_header(raw[:-1], 0, VARY_MAGIC)))


# --- checksums ---


@given(st.binary(), st.binary())
def test_two_bodies_share_a_checksum_exactly_when_they_are_equal(one: bytes, other: bytes) -> None:
    assert (checksum(one) == checksum(memoryview(other))) is (one == other)


def test_a_checksum_is_of_the_kind_that_its_length_tells() -> None:
    body = string.ascii_letters.encode()
    assert checksum(body) == sha256(body).digest()
    for known in (checksum(body), blake2b(body, digest_size=16).digest()):
        made = hasher_like(known)
        made.update(body)
        assert made.digest() == known
        assert len(shown(known)) == 32
