"""Requests to addresses that users name: TLS, proxies, and what may be reached."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.receivers import receiver

from nbledger_infrastructure.egress.addresses import (
    Reach,
    address_of,
    is_public,
    is_within,
    networks,
)
from nbledger_infrastructure.egress.posting import Poster

LOOPBACK = Reach(allowed=networks(["127.0.0.0/8"]))


@pytest.mark.guarantee("G54")
@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::8.8.8.8", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("239.1.1.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b:1::8.8.8.8", False),
        ("2002:7f00:1::", False),
        ("2001:db8::1", False),
    ],
)
def test_which_addresses_are_public(text: str, public: bool) -> None:  # noqa: FBT001
    assert is_public(address_of(text)) is public


def test_allowed_networks_take_an_address_in_any_form() -> None:
    assert is_within(address_of("10.1.2.3"), networks(["10.1.0.0/16"]))
    assert is_within(address_of("::ffff:10.1.2.3"), networks(["10.1.0.0/16"]))
    assert is_within(address_of("fd00::1"), networks(["fd00::/8"]))
    assert not is_within(address_of("10.2.2.3"), networks(["10.1.0.0/16", "fd00::/8"]))


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server on localhost, and for a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    path = folder / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + pem
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=pem.decode())


async def test_a_certificate_is_checked_against_the_name_in_the_url(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with receiver(tls=server) as there:
        trusting = Poster(timeout_seconds=20, at_once=4, reach=LOOPBACK, tls=client)
        doubting = Poster(timeout_seconds=20, at_once=4, reach=LOOPBACK)
        try:
            good = await trusting.post(f"https://localhost:{there.port}/a", {"a": "b"}, b"body")
            other = await trusting.post(f"https://127.0.0.1:{there.port}/a", {}, b"body")
            unknown = await doubting.post(f"https://localhost:{there.port}/a", {}, b"body")
        finally:
            await trusting.aclose()
            await doubting.aclose()
    assert (good.status, good.body, good.error) == (200, b"told", None)
    assert ("x-told", "yes") in good.headers
    assert [each.error for each in (other, unknown)] == ["tls_failed", "tls_failed"]
    assert [got.headers["host"] for got in there.got] == [f"localhost:{there.port}"]


async def test_everything_goes_through_the_proxy() -> None:
    async with receiver() as proxy:
        poster = Poster(
            timeout_seconds=20, at_once=4, reach=Reach(), proxy_url=f"http://127.0.0.1:{proxy.port}"
        )
        try:
            answered = await poster.post("http://hooks.example.com/a", {}, b"body")
        finally:
            await poster.aclose()
    assert answered.status == 200
    assert [got.path for got in proxy.got] == ["http://hooks.example.com/a"]


async def test_an_answer_takes_its_time_at_most() -> None:
    async with receiver() as there:
        there.always = None
        poster = Poster(timeout_seconds=0.2, at_once=4, reach=LOOPBACK)
        try:
            answered = await poster.post(there.url, {}, b"")
            there.always = 200
            later = await poster.post(there.url, {}, b"")
        finally:
            await poster.aclose()
    assert (answered.status, answered.error) == (None, "timeout")
    assert answered.milliseconds >= 200
    assert later.status == 200
