"""What the origin is sent: nothing of the visitor's where the page is everybody's (law 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from isr_proxy.core.forward import conditional_lines, neutral_fields, shared_fields, visitor_fields
from isr_proxy.core.http import HOP_BY_HOP, Fields
from isr_proxy.core.key import PLAIN, Dimension, Key, Variant, derive, variant_of
from isr_proxy.core.settings import KeyRules
from tests.core.making import fields, lines, meta, request

NEUTRAL = """User-Agent: isr-proxy
Accept: */*
Accept-Encoding: identity"""
OWN = """X-Forwarded-Proto: http
X-Forwarded-Host: example.org
X-Forwarded-Port: 80
Forwarded: host=example.org;proto=http
Via: 1.1 isr-proxy"""
OWN_FOR = f"X-Forwarded-For: 192.0.2.1\n{OWN}".replace("Forwarded: host", "Forwarded: for=192.0.2.1;host")
# FIELD.md: unkeyed headers that change answers at common origins.
POISON = """X-Forwarded-Host: evil
X-Forwarded-Scheme: evil
X-Forwarded-Proto: evil
X-Forwarded-Port: 1
X-Forwarded-For: 6.6.6.6
X-Forwarded-Prefix: /evil
X-Forwarded-Server: evil
X-Host: evil
X-Original-Host: evil
Forwarded: host=evil
X-Original-URL: /evil
X-Rewrite-URL: /evil
X-HTTP-Method: DELETE
X-HTTP-Method-Override: DELETE
X-Method-Override: DELETE
X_Forwarded_Host: evil
X_Original-Url: /evil
Via: 1.1 evil
X-Real-IP: 6.6.6.6"""
CONDITIONS = """Range: bytes=0-1
If-Range: "e"
If-Match: "e"
If-None-Match: "e"
If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT
If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT
Accept-Encoding: br"""
HOPS = """Connection: close, X-Hop
X-Hop: 1
TE: trailers
Keep-Alive: 5
Proxy-Authorization: x
Expect: 100-continue"""


def key(*dimensions: Dimension) -> Key:
    return Key("http", "example.org", "/page", None, dimensions)


# --- a regeneration ---


def test_law_4_a_regeneration_is_built_from_the_key_alone() -> None:
    assert neutral_fields(key(), PLAIN) == fields(f"{NEUTRAL}\n{OWN}")


def test_law_4_what_the_route_keys_goes_along() -> None:
    asked = key(
        ("accept-language", "de"), ("cookie:a", "1"), ("cookie:b", None), ("cookie:c", "x=y"), ("dnt", None)
    )
    assert neutral_fields(asked, PLAIN) == fields(
        f"{NEUTRAL}\naccept-language: de\nCookie: a=1; c=x=y\n{OWN}"
    )


def test_what_the_origin_varies_on_replaces_the_neutral_field() -> None:
    sent = neutral_fields(key(), Variant((("accept", "a/b"), ("user-agent", "X"))))
    assert sent == fields(f"Accept-Encoding: identity\naccept: a/b\nuser-agent: X\n{OWN}")


OURS = [
    "host",
    "connection",
    "transfer-encoding",
    "range",
    "if-none-match",
    "accept-encoding",
    "via",
    "expect",
]


@pytest.mark.parametrize("name", [*OURS, "x-forwarded-host", "x-forwarded-for", "content-length"])
def test_law_4_what_we_write_ourselves_cannot_be_varied_on(name: str) -> None:
    assert neutral_fields(key(), Variant(((name, "evil"),))) == neutral_fields(key(), PLAIN)


NAMES = st.sampled_from([line.partition(":")[0].encode() for line in f"{POISON}\n{CONDITIONS}".splitlines()])
LINES = st.lists(st.tuples(NAMES | st.just(b"Cookie") | st.just(b"Accept"), st.binary()))


@given(LINES)
def test_law_4_two_visitors_of_one_page_make_the_same_request(sent: list[tuple[bytes, bytes]]) -> None:
    asked = request(fields=Fields(sent))
    assert neutral_fields(derive(asked, KeyRules()), variant_of((), asked.fields)) == neutral_fields(
        key(), PLAIN
    )


# --- the visitor's own request ---

KEPT = "Cookie: a=1 | Authorization: x | A: 1 | a: 2"


def test_a_pass_is_the_visitors_own() -> None:
    asked = request(text=f"Host: example.org | {KEPT} | Content-Length: 3", forwarded_for="192.0.2.1")
    assert visitor_fields(asked) == fields(f"{KEPT}\n{OWN_FOR}")


def test_a_pass_keeps_conditions_and_ranges() -> None:
    assert visitor_fields(request(text=CONDITIONS)) == fields(f"{CONDITIONS}\n{OWN}")


def test_hop_by_hop_fields_end_here() -> None:
    assert visitor_fields(request(text=f"{HOPS}\nA: 1")) == fields(f"A: 1\n{OWN}")


REBUILT = {name.encode() for name in ("forwarded", "x-real-ip", "x_forwarded_host")}
REBUILT |= {f"x-forwarded-{name}".encode() for name in ("for", "host", "port", "proto", "scheme", "ssl")}


def test_law_4_forwarded_fields_are_rebuilt_whoever_sent_them() -> None:
    sent = visitor_fields(request(text=POISON))
    assert [line for line in sent if line[0].lower() in REBUILT] == list(lines(OWN))[:-1]
    assert sent.all(b"via") == ["1.1 evil", "1.1 isr-proxy"]  # appended to, as it says who came before


NODES = [
    ("192.0.2.1", "for=192.0.2.1"),
    ("192.0.2.1:80", 'for="192.0.2.1:80"'),
    ("2001:db8::1", 'for="[2001:db8::1]"'),
    ("[2001:db8::1]:80", 'for="[2001:db8::1]:80"'),
    ("unknown", "for=unknown"),
    ("_secret", "for=_secret"),
    ('";host=evil', "for=unknown"),
]


@pytest.mark.parametrize(("address", "node"), NODES)
def test_forwarded_names_each_address_as_a_node(address: str, node: str) -> None:
    sent = visitor_fields(request(forwarded_for=f"{address}, 10.0.0.1", host="example.org:81"))
    assert sent.all(b"forwarded") == [f'{node};host="example.org:81";proto=http, for=10.0.0.1']
    assert sent.all(b"x-forwarded-port") == ["81"]


FORWARDS = [
    ("TRACE", "2", "1"),
    ("OPTIONS", "1", "0"),
    ("GET", "2", "2"),
    ("OPTIONS", "many", "many"),
    ("OPTIONS", "1000000000", "1000000000"),
]


@pytest.mark.parametrize(("method", "said", "sent"), FORWARDS)
def test_max_forwards_is_counted_down(method: str, said: str, sent: str) -> None:
    asked = request(text=f"A: 1 | Max-Forwards: {said}", method=method)
    assert visitor_fields(asked) == fields(f"A: 1 | Max-Forwards: {sent}\n{OWN}")


@pytest.mark.parametrize(
    ("expect", "sent"),
    [("100-continue", ""), ("teapot", "Expect: teapot\n"), ("100-Continue, a=B", "Expect: a=B\n")],
)
def test_expectations_but_100_continue_are_the_origins_to_judge(expect: str, sent: str) -> None:
    assert visitor_fields(request(text=f"Expect: {expect}")) == fields(f"{sent}{OWN}")


# --- a fetch where the origin decides ---


def test_law_4_a_shared_fetch_has_nothing_that_poisons_or_takes_a_part() -> None:
    asked = request(text=f"{POISON}\n{CONDITIONS}\n{HOPS}\nA: 1", forwarded_for="192.0.2.1")
    expected = f"A: 1\nAccept-Encoding: identity\n{OWN_FOR}"
    assert shared_fields(asked) == fields(expected)


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_no_field_ends_up_twice_that_frames_a_message(sent: list[tuple[bytes, bytes]]) -> None:
    for made in (visitor_fields(request(fields=Fields(sent))), shared_fields(request(fields=Fields(sent)))):
        names = [name.lower() for name, _ in made]
        assert not {b"host", b"content-length", *HOP_BY_HOP} & {*names}
        assert names.count(b"x-forwarded-host") == 1


# --- conditions of our own ---

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
VALIDATORS = [
    ("", None, ""),
    ('ETag: W/"a"', None, 'If-None-Match: W/"a"'),
    ("", MODIFIED, f"If-Modified-Since: {MODIFIED}"),
    ('ETag: "a"', MODIFIED, f'If-None-Match: "a"\nIf-Modified-Since: {MODIFIED}'),
]


@pytest.mark.parametrize(("stored", "modified", "sent"), VALIDATORS)
def test_only_the_origins_own_validators_are_sent_back(stored: str, modified: str | None, sent: str) -> None:
    page = structs.replace(meta(), lines=lines(stored), last_modified=modified)
    assert conditional_lines(page) == list(lines(sent))
