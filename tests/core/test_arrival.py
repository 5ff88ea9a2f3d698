"""Arrival: whose word counts for host, scheme and address, and which heads are refused."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.arrival import Arrived, normal_host, settle, split_absolute
from isr_proxy.core.http import Fields, Request
from tests.core.making import fields

TRUSTED = tuple(ip_network(network) for network in ("10.0.0.0/8", "fd00::/8"))
HOST = "Host: example.org"


def arrived(
    text: str = HOST, target: str = "/", peer: str = "192.0.2.1", scheme: str = "http"
) -> Request | str:
    return settle(Arrived("GET", target, fields(text), scheme, peer, False), TRUSTED, "default.example")


def settled(text: str = HOST, target: str = "/", peer: str = "192.0.2.1", scheme: str = "http") -> Request:
    request = arrived(text, target, peer, scheme)
    assert isinstance(request, Request)
    return request


# --- the host ---

HOSTS = [
    ("Host: Example.ORG", "/", "example.org"),
    ("Host: example.org:80", "/", "example.org"),
    ("Host: example.org:443", "/", "example.org:443"),
    ("Host: example.org.", "/", "example.org"),
    ("Host: example.org.:8080", "/", "example.org:8080"),
    ("Host: [::1]", "/", "[::1]"),
    ("Host: [2001:DB8::1]:8080", "/", "[2001:db8::1]:8080"),
    ("Host: my_app", "/", "my_app"),
    ("", "/", "default.example"),
    (HOST, "http://example.org/a", "example.org"),
    (HOST, "http://EXAMPLE.org:80/a", "example.org"),
    ("", "http://a.example/a", "a.example"),
]


@pytest.mark.parametrize(("text", "target", "host"), HOSTS)
def test_the_host_has_one_spelling(text: str, target: str, host: str) -> None:
    assert settled(text, target).host == host


REFUSED = [
    ("Host:", "/"),
    ("Host: a b", "/"),
    ("Host: a/b", "/"),
    ("Host: user@example.org", "/"),
    ("Host: example.org:x", "/"),
    ("Host: example.org:99999", "/"),
    ("Host: -a", "/"),
    ("Host: exam\xefple", "/"),
    ("Host: a | Host: a", "/"),
    (HOST, "http://evil.example/"),
    (HOST, "http://example.org:81/"),
    (HOST, "http:///"),
    (HOST, "http://user@example.org/"),
    ("", "http://\u212aelvin/"),
]


@pytest.mark.parametrize(("text", "target"), REFUSED)
def test_what_is_no_host_or_another_one_is_refused(text: str, target: str) -> None:
    assert isinstance(arrived(text, target), str)


@given(st.text(), st.sampled_from(["http", "https"]))
def test_a_normal_host_stays_as_it_is(text: str, scheme: str) -> None:
    host = normal_host(text, scheme)
    assert host is None or normal_host(host, scheme) == host


# --- the target ---

TARGETS = [
    ("/a?b=c", "/a", "b=c"),
    ("/a?", "/a", ""),
    ("/a", "/a", None),
    ("/a?b?c", "/a", "b?c"),
    ("http://example.org", "/", None),
    ("HTTP://example.org?a", "/", "a"),
    ("/to?u=http://x/", "/to", "u=http://x/"),
    ("/caf\u00e9?\u00e9", "/caf%C3%A9", "%C3%A9"),
    ("/caf%c3%a9%2F", "/caf%c3%a9%2F", None),
    ("*", "*", None),
]


@pytest.mark.parametrize(("target", "path", "query"), TARGETS)
def test_the_target_is_kept_raw(target: str, path: str, query: str | None) -> None:
    request = settled(target=target)
    assert (request.path, request.query) == (path, query)


def test_bytes_that_are_not_utf_8_stay_for_the_policy_to_refuse() -> None:
    assert settled(target="/\udcff").path == "/\udcff"


@given(st.text())
def test_no_target_makes_arrival_raise(text: str) -> None:
    split_absolute(text)
    arrived(target=text)
    arrived(target=f"http://{text}")


# --- who is believed ---

SPOOFED = f"{HOST} | X-Forwarded-Host: evil | X-Forwarded-Proto: https | X-Forwarded-For: 1.1.1.1"


def test_law_4_a_strangers_forwarded_fields_are_not_believed() -> None:
    request = settled(SPOOFED)
    assert (request.host, request.scheme) == ("example.org", "http")
    assert (request.client, request.forwarded_for) == ("192.0.2.1", "192.0.2.1")


@pytest.mark.parametrize("peer", ["10.1.2.3", "fd00::1", "::ffff:10.1.2.3", "fd00::1%eth0"])
def test_a_trusted_proxys_are(peer: str) -> None:
    request = settled(SPOOFED, peer=peer)
    assert (request.host, request.scheme, request.client) == ("evil", "https", "1.1.1.1")
    assert request.forwarded_for == f"1.1.1.1, {peer}"


CHAINS = [
    ("", "10.0.0.1"),
    ("192.0.2.9", "192.0.2.9"),
    ("1.1.1.1, 192.0.2.9", "192.0.2.9"),
    ("1.1.1.1, 192.0.2.9, 10.0.0.2", "192.0.2.9"),
    ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ("192.0.2.9:5555, 10.0.0.2:5555", "192.0.2.9"),
    ("[2001:db8::1]:5555, [fd00::2]", "2001:db8::1"),
    ("::ffff:192.0.2.9", "192.0.2.9"),
    ("unknown, 10.0.0.2", "unknown"),
    (",, 192.0.2.9 ,", "192.0.2.9"),
]


@pytest.mark.parametrize(("said", "client"), CHAINS)
def test_the_client_is_the_nearest_whom_no_trusted_proxy_is(said: str, client: str) -> None:
    assert settled(f"{HOST} | X-Forwarded-For: {said}", peer="10.0.0.1").client == client


PROTOS = [
    ("192.0.2.9", "https", "https"),
    ("192.0.2.9", "http, https", "https"),
    ("192.0.2.9, 10.0.0.2", "https, http", "https"),
    ("192.0.2.9, 10.0.0.2", "https", "https"),
    ("192.0.2.9, 10.0.0.2", "https, http, http", "http"),
    ("192.0.2.9", "gopher", "http"),
    ("192.0.2.9", "HTTPS", "https"),
    ("192.0.2.9", "", "http"),
]


@pytest.mark.parametrize(("chain", "said", "scheme"), PROTOS)
def test_the_outermost_trusted_proxy_says_the_scheme(chain: str, said: str, scheme: str) -> None:
    text = f"{HOST} | X-Forwarded-For: {chain} | X-Forwarded-Proto: {said}"
    assert settled(text, peer="10.0.0.1").scheme == scheme


def test_the_default_port_is_that_of_the_scheme_the_visitor_used() -> None:
    text = "Host: example.org:443 | X-Forwarded-Proto: https"
    assert settled(text, peer="10.0.0.1").host == "example.org"


def test_a_trusted_proxy_may_not_say_what_is_no_host() -> None:
    assert isinstance(arrived(f"{HOST} | X-Forwarded-Host: a b", peer="10.0.0.1"), str)


@pytest.mark.parametrize("peer", ["", "not an address", "10.0.0", "::g"])
def test_a_peer_without_an_address_is_not_trusted(peer: str) -> None:
    assert settled(SPOOFED, peer=peer).host == "example.org"


# --- what Connection names ---


def test_law_4_what_ends_at_this_hop_chooses_no_key_and_no_variant() -> None:
    request = settled(f"{HOST} | Connection: close, Accept-Language | Accept-Language: de | A: 1")
    assert request.fields == fields(f"{HOST} | Connection: close, Accept-Language | A: 1")


def test_connection_cannot_drop_what_frames_a_request() -> None:
    text = f"{HOST} | Connection: host, content-length, transfer-encoding | Content-Length: 3"
    assert settled(text).fields == fields(text)


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_no_fields_make_arrival_raise(lines: list[tuple[bytes, bytes]]) -> None:
    for peer in ("192.0.2.1", "10.0.0.1"):
        settle(Arrived("GET", "/", Fields(lines), "http", peer, False), TRUSTED, "h")


FORWARDED = [b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"Host", b"Connection"]
SPOKEN = st.text("0123456789.:[]%,ax ").map(str.encode)


@given(st.lists(st.tuples(st.sampled_from(FORWARDED), SPOKEN)))
def test_no_forwarded_fields_make_arrival_raise(lines: list[tuple[bytes, bytes]]) -> None:
    settle(Arrived("GET", "/", Fields(lines), "http", "10.0.0.1", False), TRUSTED, "h")
