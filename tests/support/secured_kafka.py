"""Apache Kafka with TLS, passwords, and the ACLs of `deploy/kafka/acls.sh`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.paths import ROOT

from nbledger.embedded.apache_kafka import (
    Security,
    kafka_jars,
    start_apache_kafka,
)
from nbledger_infrastructure.settings import Kafka

ADMINISTRATOR = "admin"
RELAY = "nbledger-relay"
WORKER = "nbledger-worker"
SEALER = "nbledger-sealer"

_TOOL_SECONDS = 120.0
_PASSWORD = "not-a-secret"


@dataclass(frozen=True)
class SecuredKafka:
    """A running broker that wants to know who comes."""

    bootstrap_servers: str
    security: Security

    def settings(self, user: str, **others: str | bool) -> Kafka:
        """Settings with which the user gets in."""
        return Kafka(
            bootstrap_servers=self.bootstrap_servers,
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            username=user,
            password=self.security.users[user],
            ca_file=str(self.security.ca_file),
            **others,  # type: ignore[arg-type]
        )

    def environment(self, user: str) -> dict[str, str]:
        """The same settings as variables."""
        return {
            "NBLEDGER_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "NBLEDGER_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "NBLEDGER_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "NBLEDGER_KAFKA_USERNAME": user,
            "NBLEDGER_KAFKA_PASSWORD": self.security.users[user],
            "NBLEDGER_KAFKA_CA_FILE": str(self.security.ca_file),
        }


@asynccontextmanager
async def secured_kafka(
    folder: Path, *, subscribers: Sequence[str], strangers: Sequence[str]
) -> AsyncIterator[SecuredKafka]:
    """A broker with users for each role, subscribers, and strangers without any right."""
    names = (ADMINISTRATOR, RELAY, WORKER, SEALER, *subscribers, *strangers)
    security = Security(
        keystore=folder / "broker.p12",
        keystore_password=_PASSWORD,
        ca_file=folder / "ca.pem",
        users={name: f"{name}-password" for name in names},
        administrator=ADMINISTRATOR,
    )
    await asyncio.to_thread(_make_certificate, security)
    broker = await start_apache_kafka(folder / "kafka", security=security)
    try:
        kafka = SecuredKafka(broker.bootstrap_servers, security)
        jars = await kafka_jars(folder / "jars.log")
        await asyncio.to_thread(_grant, kafka, jars, folder, subscribers)
        yield kafka
    finally:
        await broker.stop()


def _make_certificate(security: Security) -> None:
    """A key and its certificate for 127.0.0.1, by the tool that comes with Java."""
    store = [f"-keystore={security.keystore}", f"-storepass={_PASSWORD}", "-alias=broker"]
    store = [part for option in store for part in option.split("=", 1)]
    _run(
        "keytool", "-genkeypair", *store, "-storetype", "PKCS12", "-keyalg", "EC",
        "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1", "-validity", "2",
    )  # fmt: skip
    _run("keytool", "-exportcert", *store, "-rfc", "-file", str(security.ca_file))


def _grant(kafka: SecuredKafka, jars: Path, folder: Path, subscribers: Sequence[str]) -> None:
    """Run the script of the deployment as the administrator."""
    security = kafka.security
    client = folder / "admin.properties"
    client.write_text(
        "security.protocol=SASL_SSL\n"
        "sasl.mechanism=SCRAM-SHA-512\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{ADMINISTRATOR}" password="{security.users[ADMINISTRATOR]}";\n'
        f"ssl.truststore.type=PEM\nssl.truststore.location={security.ca_file}\n"
    )
    tool = (
        f"java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp {jars}/* "
        f"org.apache.kafka.tools.AclCommand --bootstrap-server {kafka.bootstrap_servers} "
        f"--command-config {client}"
    )
    _run(str(ROOT / "deploy/kafka/acls.sh"), *subscribers, KAFKA_ACLS=tool)


def _run(*command: str, **environment: str) -> None:
    finished = subprocess.run(
        command,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TOOL_SECONDS,
        check=False,
    )
    sys.stdout.write(finished.stdout)
    assert finished.returncode == 0, finished.stdout
