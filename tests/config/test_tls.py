"""TLS in the config: what it becomes, and every file that cannot be used, with its place."""

from __future__ import annotations

import ssl
import subprocess
from _ssl import _test_decode_cert  # type: ignore[attr-defined]
from pathlib import Path

import pytest

from isr_proxy.core.settings import (
    CertificateFiles,
    ListenTls,
    OriginTls,
    TcpAddress,
    TlsVersion,
    UnixAddress,
)
from isr_proxy.run import certificates, config
from tests.config.reading import parsed, problem, problems
from tests.pem import Authority, Pair


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def site(ca: Authority) -> Pair:
    return ca.sign("site.example")


# --- listen ---


def test_addresses_and_mappings_stand_side_by_side(ca: Authority, site: Pair) -> None:
    other = ca.sign("other.example")
    settings = parsed(f"""
        listen:
          - :8080
          - address: :8443
            tls: {{certificate: {site.certificate}, key: {site.key}, min_version: 1.3, sni: [{other.yaml()}]}}
          - {{address: unix:/run/isr.sock, mode: 660}}
        """)
    files = [CertificateFiles(str(pair.certificate), str(pair.key)) for pair in (site, other)]
    assert settings.listen == (
        TcpAddress("0.0.0.0", 8080),
        TcpAddress("0.0.0.0", 8443, ListenTls(tuple(files), TlsVersion.TLS_1_3)),
        UnixAddress("/run/isr.sock", 0o660),
    )


def test_one_mapping_is_a_list_of_it(site: Pair) -> None:
    (address,) = parsed(f"listen: {{address: ':8443', tls: {site.yaml()}}}").listen
    assert address.tls is not None


def test_files_lie_beside_the_config(ca: Authority, site: Pair) -> None:
    file = ca.folder / "isr.yaml"
    pair = "certificate: site.example.pem, key: site.example.key"
    file.write_text(
        f"listen: {{address: ':8443', tls: {{{pair}, client_ca: ca.pem}}}}\n"
        f"origin: {{url: https://app, tls: {{ca: ca.pem, {pair}}}}}\n"
    )
    settings = config.load(file)
    tls = settings.listen[0].tls
    assert tls is not None
    assert tls.certificates == (CertificateFiles(str(site.certificate), str(site.key)),)
    assert tls.client_ca == settings.origin.tls.ca == str(ca.own.certificate)
    assert (settings.origin.tls.certificate, settings.origin.tls.key) == (
        str(site.certificate),
        str(site.key),
    )


def test_what_a_mapping_lacks_or_has_too_much() -> None:
    text = """
        listen:
          - {adress: ':1'}
          - {address: ':2', tls: {}}
          - {address: ':3', mode: 660}
        """
    missing, unknown, *_ = problems(text)
    assert missing == "3:5: listen[0]: `address` is missing here; allowed: the keys address, mode, tls"
    assert unknown == "3:6: listen[0].adress: unknown key, did you mean `address`?"
    assert problem("listen: {address: ':2', tls: {}}").startswith(
        "1:30: listen.tls: `certificate` is missing here"
    )
    assert problem("listen: {address: ':3', mode: 660}").startswith(
        "1:31: listen.mode: means the file of a unix"
    )
    assert problem("listen: {address: 'unix:/s', mode: 888}").startswith(
        "1:36: listen.mode: `888` is not a file's"
    )


def test_an_address_stands_once_with_and_without_tls(site: Pair) -> None:
    text = f"listen: [':8443', {{address: ':8443', tls: {site.yaml()}}}]"
    assert problem(text).startswith("1:19: listen[1]: `0.0.0.0:8443` stands here twice")


def fault(pair: Pair, more: str = "") -> str:
    """Return the problem of a listener with these files, without its place."""
    files = f"    certificate: {pair.certificate}\n    key: {pair.key}\n"
    return problem(f"listen:\n  address: ':8443'\n  tls:\n{files}{more}")


def test_a_certificate_that_is_not_there(site: Pair, tmp_path: Path) -> None:
    said = fault(Pair(tmp_path / "none.pem", site.key))
    assert said == "4:18: listen.tls.certificate: the file cannot be read: No such file or directory"


def test_a_key_that_is_not_there(site: Pair, tmp_path: Path) -> None:
    said = fault(Pair(site.certificate, tmp_path / "none.key"))
    assert said == "5:10: listen.tls.key: the file cannot be read: No such file or directory"


def test_files_that_are_something_else(site: Pair, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("hello")
    other = tmp_path / "other"
    assert fault(Pair(other, site.key)).endswith("tls.certificate: the file has no certificate in PEM")
    assert fault(Pair(site.certificate, other)).endswith("tls.key: the file is no private key in PEM")
    assert fault(site, f"    client_ca: {other}\n").endswith(
        "tls.client_ca: the file has no certificate in PEM"
    )


def test_a_key_of_another_certificate(ca: Authority, site: Pair) -> None:
    said = fault(Pair(site.certificate, ca.own.key))
    assert said == "5:10: listen.tls.key: the file does not belong to the certificate"


def test_a_certificate_that_has_expired(ca: Authority) -> None:
    assert ": listen.tls.certificate: the file expired on " in fault(ca.sign("old.example", days=-1))


def test_a_key_with_a_passphrase(ca: Authority, site: Pair, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    command = f"openssl ec -aes256 -passout pass:secret -in {site.key} -out {locked}"
    subprocess.run(command.split(), check=True, capture_output=True)
    assert "tls.key: the file is encrypted; allowed: a key without a passphrase" in fault(
        Pair(site.certificate, locked)
    )


def test_a_certificate_without_a_key(site: Pair) -> None:
    said = problem(f"listen: {{address: ':1', tls: {{certificate: {site.certificate}}}}}")
    assert said.endswith("listen.tls.certificate: the file has no private key behind its certificate")


def test_every_bad_certificate_is_told_of(ca: Authority, site: Pair) -> None:
    others = f"    sni: [{site.yaml()}, {{certificate: {site.certificate}, key: {ca.own.key}}}]\n"
    assert "listen.tls.sni[1].key: the file does not belong to the certificate" in fault(site, others)


def test_tls_is_reloaded_but_not_switched(site: Pair) -> None:
    plain, tls = (parsed(f"listen: {{address: ':1', tls: {text}}}") for text in ("null", site.yaml()))
    newer = parsed(f"listen: {{address: ':1', tls: {{certificate: {site.in_one_file()}}}}}")
    assert config.diff(tls, newer) == config.Changes(("listen",))
    assert config.diff(plain, tls).needs_restart == ("listen: 0.0.0.0:1 -> 0.0.0.0:1 (TLS) needs a restart",)


# --- origin ---


def test_tls_to_the_origin(ca: Authority, site: Pair) -> None:
    text = f"""
        origin:
          url: https://app.internal
          tls: {{ca: {ca.own.certificate}, certificate: {site.certificate}, key: {site.key},
                server_name: App.internal, verify: false}}
        """
    assert parsed(text).origin.tls == OriginTls(
        str(ca.own.certificate), str(site.certificate), str(site.key), "app.internal", verify=False
    )


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ("{ca: /none.pem}", "1:36: origin.tls.ca: the file cannot be read: No such file or directory"),
        ("{certificate: /none.pem}", "origin.tls.certificate: the file cannot be read"),
        ("{key: /none.key}", "origin.tls.key: has no `certificate` that it belongs to"),
        ("{verfy: true}", "origin.tls.verfy: unknown key, did you mean `verify`?"),
    ],
)
def test_files_for_the_origin(tls: str, said: str) -> None:
    assert said in problem(f"origin: {{url: https://a, tls: {tls}}}")


def test_tls_for_an_origin_without_it() -> None:
    said = problem("origin: {url: http://a, tls: {verify: false}}")
    assert said.startswith("1:25: origin.tls: means nothing: no `origin.url` begins with https://")


def test_the_private_reader_of_certificates(ca: Authority) -> None:
    pair = ca.sign("a.example", "B.example")
    decoded = _test_decode_cert(str(pair.certificate))
    assert decoded["subjectAltName"] == (("DNS", "a.example"), ("DNS", "B.example"))
    assert decoded["subject"] == ((("commonName", "a.example"),),)
    assert ssl.cert_time_to_seconds(decoded["notBefore"]) < ssl.cert_time_to_seconds(decoded["notAfter"])
    assert certificates.names_of(str(pair.certificate)) == ["a.example", "b.example"]
    assert certificates.names_of(str(ca.own.certificate)) == ["ca"]
