"""Requests to addresses that users name: TLS, proxies, and what may be reached."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import ssl
from pathlib import Path
from typing import Any

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
    literal,
    networks,
)
from nbledger_infrastructure.egress.connections import KEPT, Connection, KeptConnections
from nbledger_infrastructure.egress.posting import Poster, trusting

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
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", False),  # Teredo to 127.0.0.1
        ("2002:a01:203::1", False),
        ("2002:808:808::1", True),
        ("::ffff:0:127.0.0.1", False),
        ("192.88.99.1", False),
        ("3fff::1", False),
        ("4000::1", False),
        ("5f00::1", False),
        ("100::1", False),
    ],
)
def test_which_addresses_are_public(text: str, public: bool) -> None:  # noqa: FBT001
    assert is_public(address_of(text)) is public


def test_allowed_networks_take_an_address_in_any_form() -> None:
    assert is_within(address_of("10.1.2.3"), networks(["10.1.0.0/16"]))
    assert is_within(address_of("::ffff:10.1.2.3"), networks(["10.1.0.0/16"]))
    assert is_within(address_of("fd00::1"), networks(["fd00::/8"]))
    assert not is_within(address_of("10.2.2.3"), networks(["10.1.0.0/16", "fd00::/8"]))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("[::1]", "::1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0", "0.0.0.0"),  # noqa: S104
        ("example.com", None),
        ("1.2.3.4.5", None),
        ("0x", None),
    ],
)
def test_an_address_is_known_in_every_notation(host: str, address: str | None) -> None:
    assert literal(host) == (None if address is None else address_of(address))


@pytest.mark.guarantee("G54")
def test_refused_networks_are_refused_though_public_or_allowed() -> None:
    reach = Reach(
        allowed=networks(["10.0.0.0/8"]), refused=networks(["10.1.0.0/16", "2606:4700::/32"])
    )
    taken = [
        text
        for text in ("10.2.0.1", "10.1.0.1", "::ffff:10.1.0.1", "2606:4700::1", "2620:fe::9")
        if reach.takes(address_of(text))
    ]
    assert taken == ["10.2.0.1", "2620:fe::9"]


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server on localhost, and for a client that trusts it, by a bundle of its own."""
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
    bundle = folder / "authorities.pem"
    bundle.write_bytes(pem)
    return server, trusting(str(bundle))


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
    """With the user that its URL names; what needs no look at a name is refused before."""
    async with receiver() as proxy:
        poster = Poster(
            timeout_seconds=20,
            at_once=4,
            reach=Reach(),
            proxy_url=f"http://us%40er:word@127.0.0.1:{proxy.port}",
        )
        try:
            answered = await poster.post("http://hooks.example.com/a", {}, b"body")
            inside = await poster.post("https://169.254.169.254/a", {}, b"body")
        finally:
            await poster.aclose()
    assert answered.status == 200
    assert inside.error == "address_refused"
    assert [got.path for got in proxy.got] == ["http://hooks.example.com/a"]
    told = proxy.got[0].headers["proxy-authorization"].removeprefix("Basic ")
    assert base64.b64decode(told) == b"us@er:word"
    assert base64.b64decode(told).decode() not in str(answered)


async def test_another_address_is_tried_where_the_first_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with receiver() as there:
        real = socket.getaddrinfo

        def two(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host != "two.example.com":
                return real(host, port, *args, **kwargs)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in ("10.0.0.1", "127.0.0.3", "127.0.0.1")
            ]

        monkeypatch.setattr(socket, "getaddrinfo", two)
        poster = Poster(timeout_seconds=20, at_once=4, reach=LOOPBACK)
        try:
            answered = [
                await poster.post(f"HTTP://two.example.com:{there.port}/a", {}, b"")
                for _ in range(2)
            ]
        finally:
            await poster.aclose()
    assert [each.status for each in answered] == [200, 200]


async def test_connections_are_kept_and_bounded() -> None:
    """One is used again for the same place; of many places the oldest are closed."""
    made: list[Connection] = []

    def connect() -> Connection:
        made.append(Connection())
        return made[-1]

    kept = KeptConnections(connect)
    first = kept.take("a")
    await kept.give_back("a", first)
    other = kept.take("b")
    assert other is not first
    assert kept.take("a") is first
    assert kept.take("a") is not first
    for number in range(KEPT + 1):
        await kept.give_back(f"place {number}", kept.take(f"place {number}"))
    before = len(made)
    assert kept.take("place 0") is made[-1]
    assert len(made) == before + 1
    assert kept.take(f"place {KEPT}") in made[:before]
    await kept.aclose()


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
