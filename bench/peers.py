"""Who is measured? Each peer starts on a private port in a directory of its own, with mutual TLS or plain, and ends with the block."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A running receiver. `credentials`: key, certificate and CA files for the sender, None for plain."""

    name: str
    pid: int
    port: int
    called_ae_title: str
    credentials: tuple[Path, Path, Path] | None


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def environment() -> dict[str, str]:
    """TCP_NODELAY on both ends: without it Nagle and delayed ACK hold Orthanc and dcmqrscp at about 21 instances/s."""
    return {**os.environ, "TCP_NODELAY": "1"}


def _wait(port: int) -> None:
    """Until somebody listens; without a knock, which some receivers take for a peer that never speaks."""
    end, wanted = time.monotonic() + START_SECONDS_MAX, f":{port:04X} "
    while time.monotonic() < end:
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            if any(wanted in line and " 0A " in line for line in Path(table).read_text().splitlines()):
                return
        time.sleep(0.1)
    raise RuntimeError(f"nobody listens on port {port}")


@contextmanager
def _running(command: list[str], log: Path, more: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        environ = {**environment(), **(more or {})}
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environ, cwd=log.parent)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def leadglass(directory: Path, *, without: str = "", filled: int = 0) -> Iterator[Peer]:
    """Every control on: mutual TLS, policy, encryption, digest, event, durable answer; but what `bench/without` takes out, by name.

    `filled`: so many synthetic studies are published into its index first.
    """
    site, stick, port = directory / "site", directory / "stick", free_port()
    base = [sys.executable, "-m", "leadglass"]
    _run([*base, "init", str(site), "--loopback"])
    file = site / "leadglass.toml"
    file.write_text(file.read_text().replace("127.0.0.1:2762", f"127.0.0.1:{port}"))
    base += ["--site", str(site)]
    _run([*base, "apply"])
    enroll = [
        "device",
        "enroll",
        "BENCH",
        "--ae",
        "BENCH",
        "--network",
        "127.0.0.0/8",
        "--may",
        "echo,store,find,get,move",
    ]
    _run([*base, *enroll, "--out", str(stick)])
    if filled:
        _run([sys.executable, "-m", "bench.finding", str(site), str(filled)])
    log, taken_out = directory / "leadglass.log", _without(without, stick)
    with _running([*base, "up"], log, taken_out) as process:
        end = time.monotonic() + START_SECONDS_MAX
        while "ready dimse=" not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(log.read_text(errors="replace")[-2000:])
            time.sleep(0.1)
        credentials = (stick / "client.key", stick / "client.pem", stick / "ca.pem")
        name = f"leadglass without {without}" if without else "leadglass"
        yield Peer(name, process.pid, port, "LEADGLASS", None if "tls" in without.split(",") else credentials)


def _without(names: str, stick: Path) -> dict[str, str]:
    """What makes a Leadglass process load `bench/without/sitecustomize.py` and leave these out."""
    if not names:
        return {}
    return {
        "PYTHONPATH": f"{Path(__file__).parent / 'without'}:{os.environ.get('PYTHONPATH', '')}",
        "BENCH_WITHOUT": names,
        "BENCH_CERTIFICATE": str(stick / "client.pem"),
    }


@contextmanager
def storescp(directory: Path, *, tls: bool, ignore: bool = False) -> Iterator[Peer]:
    """DCMTK's storescp at its defaults: writes files, neither syncs, indexes, hashes nor encrypts. `ignore`: throws everything away."""
    directory.mkdir(parents=True, exist_ok=True)
    port, credentials = free_port(), None
    command = [program("storescp"), "--fork", "-od", str(directory), "-aet", "STORESCP"]
    if ignore:
        command.append("--ignore")
    if tls:
        credentials = _certificates(directory)
        command += ["+tls", str(credentials[0]), str(credentials[1]), "+cf", str(credentials[2])]
    with _running([*command, str(port)], directory / "storescp.log") as process:
        _wait(port)
        name = "ceiling-tls" if ignore else "storescp-tls" if tls else "storescp"
        yield Peer(name, process.pid, port, "STORESCP", credentials)


@contextmanager
def orthanc(directory: Path, *, tls: bool) -> Iterator[Peer]:
    """Orthanc with SQLite at its defaults, nothing but the ports and TLS set."""
    directory.mkdir(parents=True, exist_ok=True)
    port, credentials = free_port(), None
    settings: dict[str, object] = {
        "Name": "bench",
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "HttpPort": free_port(),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageDirectory": str(directory / "storage"),
        "IndexDirectory": str(directory / "storage"),
        "Plugins": [],
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
    }
    if tls:
        credentials = _certificates(directory)
        settings |= {
            "DicomTlsEnabled": True,
            "DicomTlsPrivateKey": str(credentials[0]),
            "DicomTlsCertificate": str(credentials[1]),
            "DicomTlsTrustedCertificates": str(credentials[2]),
            "DicomTlsRemoteCertificateRequired": True,
        }
    file = directory / "orthanc.json"
    file.write_text(json.dumps(settings))
    with _running([program("Orthanc"), str(file)], directory / "orthanc.log") as process:
        _wait(port)
        yield Peer("orthanc-tls" if tls else "orthanc", process.pid, port, "ORTHANC", credentials)


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        raise RuntimeError(f"{name} is not installed: the bench needs Debian's dcmtk, orthanc and socat")
    return found


def _certificates(directory: Path) -> tuple[Path, Path, Path]:
    """A throw-away P-256 authority and one leaf for both ends."""
    import datetime as dt

    from leadglass.identity.authority import Authority, KeyKind, key_pem, new_key, pem

    now = dt.datetime.now(dt.UTC)
    authority, key = Authority.create("bench CA", now), new_key(KeyKind.EC)
    leaf = authority.issue(key.public_key(), "localhost", ["localhost", "127.0.0.1"], now, 30)
    paths = (directory / "key.pem", directory / "cert.pem", directory / "ca.pem")
    for path, content in zip(paths, (key_pem(key, None), pem(leaf), pem(authority.certificate)), strict=True):
        path.write_bytes(content)
    return paths


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")


@contextmanager
def relayed(peer: Peer, directory: Path) -> Iterator[int]:
    """A plain port whose bytes reach the peer over mutual TLS, for clients that know no TLS: Debian's socat, the same for every server."""
    port = free_port()
    far = f"TCP:127.0.0.1:{peer.port},nodelay"
    if peer.credentials is not None:
        key, certificate, authority = peer.credentials
        far = f"OPENSSL:127.0.0.1:{peer.port},key={key},cert={certificate},cafile={authority},verify=0,nodelay"
    line = [program("socat"), "-b", "262144", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,nodelay", far]
    with _running(line, directory / f"relay-{port}.log"):
        _wait(port)
        yield port


@contextmanager
def dcmqrscp(directory: Path) -> Iterator[Peer]:
    """DCMTK's archive at its defaults, behind a TLS relay of its own because Debian's knows no TLS."""
    directory.mkdir(parents=True, exist_ok=True)
    storage, port, outside = directory / "storage", free_port(), free_port()
    storage.mkdir()
    config = directory / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\nHostTable BEGIN\nHostTable END\n"
        f"VendorTable BEGIN\nVendorTable END\nAETable BEGIN\nDCMQRSCP {storage} RW (500, 1024mb) ANY\nAETable END\n"
    )
    key, certificate, authority = _certificates(directory)
    near = f"OPENSSL-LISTEN:{outside},bind=127.0.0.1,reuseaddr,fork,key={key},cert={certificate},cafile={authority},verify=1,nodelay"
    relay = [program("socat"), "-b", "262144", near, f"TCP:127.0.0.1:{port},nodelay"]
    with (
        _running([program("dcmqrscp"), "-c", str(config), str(port)], directory / "dcmqrscp.log") as process,
        _running(relay, directory / "relay.log"),
    ):
        _wait(port)
        _wait(outside)
        yield Peer("dcmqrscp", process.pid, outside, "DCMQRSCP", (key, certificate, authority))
