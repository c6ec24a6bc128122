"""An authority that stamps (RFC 3161), of openssl's own, on loopback."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

_SECONDS = 60
_CONFIG = """
[req]
distinguished_name = none
[none]
[tsa_certificate]
basicConstraints = critical,CA:false
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
[tsa]
default_tsa = stamping
[stamping]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class Authority:
    """A running authority, and its certificates. ``refuses`` makes it answer 503."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file = folder / "ca.pem"
        self.url = ""
        self.refuses = False
        self.asked = 0
        (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder))
        subject = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        self._openssl("req", "-x509", *subject, "-subj", "/CN=Test CA", "-days", "2",
                      "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem")  # fmt: skip
        self._openssl("req", *subject, "-subj", "/CN=Test TSA",
                      "-keyout", f"{folder}/tsa.key", "-out", f"{folder}/tsa.csr")  # fmt: skip
        self._openssl("x509", "-req", "-in", f"{folder}/tsa.csr", "-CA", f"{folder}/ca.pem",
                      "-CAkey", f"{folder}/ca.key", "-CAcreateserial", "-days", "2",
                      "-extfile", f"{folder}/openssl.cnf", "-extensions", "tsa_certificate",
                      "-out", f"{folder}/tsa.pem")  # fmt: skip

    def stamp(self, query: bytes) -> bytes:
        """Answer a query."""
        self.asked += 1
        (self.folder / "query.tsq").write_bytes(query)
        self._openssl("ts", "-reply", "-config", f"{self.folder}/openssl.cnf", "-section",
                      "stamping", "-queryfile", f"{self.folder}/query.tsq",
                      "-out", f"{self.folder}/answer.tsr")  # fmt: skip
        return (self.folder / "answer.tsr").read_bytes()

    def verifies(self, text: bytes, response: bytes) -> bool:
        """Whether openssl finds that a response stamps a text, by its command ``ts -verify``."""
        (self.folder / "checked.txt").write_bytes(text)
        (self.folder / "checked.tsr").write_bytes(response)
        done = subprocess.run(
            ["openssl", "ts", "-verify", "-data", self.folder / "checked.txt",
             "-in", self.folder / "checked.tsr", "-CAfile", self.ca_file],
            capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def _openssl(self, *arguments: str) -> None:
        config = {"PATH": "/usr/bin:/bin", "OPENSSL_CONF": f"{self.folder}/openssl.cnf"}
        subprocess.run(
            ["openssl", *arguments], env=config, capture_output=True, timeout=_SECONDS, check=True
        )


@contextmanager
def authority(folder: Path) -> Iterator[Authority]:
    """An authority that answers on loopback, for the block."""
    made = Authority(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            good = self.headers["Content-Type"] == "application/timestamp-query"
            answer = made.stamp(query) if good and not made.refuses else b""
            self.send_response(200 if answer else 503)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's)
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}/"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
