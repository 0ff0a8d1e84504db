"""The relay passes bytes both ways, from the address it was told to use, and demands a certificate where TLS comes in."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from leadglass.identity.authority import Authority, KeyKind, key_pem, new_key, pem
from leadglass.lab.relay import Credentials, Direction, Relay

MEGABYTES = 3


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    place, now = tmp_path_factory.mktemp("pki"), datetime.now(UTC)
    authority, key = Authority.create("lab", now), new_key(KeyKind.EC)
    certificate = authority.issue(key.public_key(), "peer", ["127.0.0.1"], now, 2)
    for name, content in (
        ("cert.pem", pem(certificate)),
        ("key.pem", key_pem(key, None)),
        ("ca.pem", pem(authority.certificate)),
    ):
        (place / name).write_bytes(content)
    return Credentials(place / "cert.pem", place / "key.pem", place / "ca.pem")


class Mirror(threading.Thread):
    """Sends back what it hears, and remembers who called."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(daemon=True)
        self.listener, self.context = socket.create_server(("127.0.0.1", 0)), context
        self.callers: list[str] = []
        self.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()
        return host, port

    def run(self) -> None:
        while True:
            try:
                sock, (host, _) = self.listener.accept()
            except OSError:
                return
            self.callers.append(host)
            with sock if self.context is None else self.context.wrap_socket(sock, server_side=True) as peer:
                while data := peer.recv(65536):
                    peer.sendall(data)


@pytest.fixture(params=[Direction.TO_TLS, Direction.FROM_TLS], ids=["to-tls", "from-tls"])
def pair(request: pytest.FixtureRequest, credentials: Credentials) -> Iterator[tuple[Relay, Mirror, Direction]]:
    direction = request.param
    mirror = Mirror(credentials.server_context() if direction is Direction.TO_TLS else None)
    with Relay(("127.0.0.1", 0), mirror.address, credentials, direction=direction, bind="127.66.0.7") as relay:
        yield relay, mirror, direction
    mirror.listener.shutdown(socket.SHUT_RDWR)
    mirror.listener.close()
    mirror.join()


def test_bytes_pass_both_ways_from_the_bound_address(
    pair: tuple[Relay, Mirror, Direction], credentials: Credentials
) -> None:
    relay, mirror, direction = pair
    sent = bytes(range(256)) * 4096 * MEGABYTES  # more than all buffers on the way hold
    sock = socket.create_connection(relay.address, 10)
    peer = sock if direction is Direction.TO_TLS else credentials.client_context().wrap_socket(sock)
    with peer:
        writer = threading.Thread(target=peer.sendall, args=(sent,))
        writer.start()
        came = bytearray()
        while len(came) < len(sent):
            came += peer.recv(65536)
        writer.join()
    assert bytes(came) == sent
    assert mirror.callers == ["127.66.0.7"]


def test_nobody_comes_through_without_a_certificate(credentials: Credentials) -> None:
    mirror = Mirror(None)
    with Relay(("127.0.0.1", 0), mirror.address, credentials, direction=Direction.FROM_TLS) as relay:
        nameless = Credentials(None, None, credentials.authorities).client_context()
        with (
            socket.create_connection(relay.address, 10) as sock,
            pytest.raises((ssl.SSLError, ConnectionError)),
            nameless.wrap_socket(sock) as peer,
        ):
            peer.sendall(b"hello")
            if not peer.recv(1):
                raise ConnectionResetError
    mirror.listener.shutdown(socket.SHUT_RDWR)
    mirror.listener.close()
    mirror.join()


def test_it_stops_while_somebody_is_connected(credentials: Credentials) -> None:
    mirror = Mirror(credentials.server_context())
    relay = Relay(("127.0.0.1", 0), mirror.address, credentials).start()
    with socket.create_connection(relay.address, 10) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        relay.stop()
        assert sock.recv(1) == b""
    mirror.listener.shutdown(socket.SHUT_RDWR)
    mirror.listener.close()
    mirror.join()


def test_the_command_relays_until_it_is_told_to_stop(credentials: Credentials) -> None:
    mirror = Mirror(credentials.server_context())
    host, port = mirror.address
    line = [sys.executable, "-m", "leadglass.lab", "relay", "--listen", "127.0.0.1:0", "--to", f"{host}:{port}"]
    line += ["--bind", "127.66.0.8", "--cert", str(credentials.certificate), "--key", str(credentials.key)]
    line += ["--ca", str(credentials.authorities)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        with socket.create_connection(("127.0.0.1", int(ready.rpartition(":")[2])), 10) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        process.terminate()
        assert process.wait(30) == 0
    assert mirror.callers == ["127.66.0.8"]
    mirror.listener.shutdown(socket.SHUT_RDWR)
    mirror.listener.close()
    mirror.join()


def test_a_missing_stick_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Credentials(tmp_path / "a", tmp_path / "b", tmp_path / "c").client_context()
