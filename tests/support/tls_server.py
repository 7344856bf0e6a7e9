"""A server on this machine that speaks TLS, with certificates of an authority made for the test."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

PAST = datetime(2020, 1, 1, tzinfo=UTC)


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def do_POST(self) -> None:
        """Answer what was sent, in parts whose sizes are those of no buffer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for begin in range(0, len(body), 12_345):
            self.wfile.write(body[begin : begin + 12_345])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Quiet(ThreadingHTTPServer):
    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer; where the handshake fails, wait for the end of the client, which a reset would keep from reading why."""
        try:
            if isinstance(request, ssl.SSLSocket):
                request.do_handshake()
        except ssl.SSLError:
            with socket.socket(fileno=os.dup(request.fileno())) as plain:
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(65536):
                    pass
        else:
            super().finish_request(request, client_address)

    def handle_error(self, *_: object) -> None:
        """A connection that the client ends is what the test wants."""


@contextlib.contextmanager
def serving(
    certificate: trustme.LeafCert | None, *, clients_of: trustme.CA | None = None
) -> Iterator[int]:
    """Answer each GET, and each POST with its body; with `clients_of`, callers need a certificate of that authority.

    Yields the port.
    """
    server = _Quiet(("127.0.0.1", 0), _Answering)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        if clients_of is not None:
            clients_of.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        # each handshake in the thread of its connection
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def pem_of(leaf: trustme.LeafCert, path: Path) -> Path:
    """Write a certificate with its key into one file."""
    leaf.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path
