"""A real Active Directory domain for tests: Samba's domain controller on a loopback address of its own, LDAP and nothing else of it."""

from __future__ import annotations

import datetime as dt
import os
import random
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ldap3
import pytest

from leadglass.identity.authority import Authority, KeyKind, key_pem, new_key, pem
from leadglass.identity.people.directory import _Tls
from leadglass.site.model import DirectorySettings
from leadglass.terms import Role
from tests.programs import require

BASE = "DC=hosp,DC=test"
STAFF = f"OU=Staff,{BASE}"
READERS, CT_READERS = f"CN=Readers,{STAFF}", f"CN=CT (readers)*,{STAFF}"
TECHNOLOGISTS, EVERYBODY = f"CN=Technologists,{STAFF}", f"CN=Everybody,{STAFF}"
START_SECONDS_MAX = 120.0
PASSWORD = "Passw0rd-of-"
_ADMINISTRATOR = "Adm1n-of-the-tests"
_DISABLED, _NORMAL = 0x202, 0x200  # userAccountControl
_CONFIGURATION = """[global]
interfaces = {address}/8 {other}/8
bind interfaces only = yes
server services = ldap
netbios name = DC
realm = HOSP.TEST
workgroup = HOSP
server role = active directory domain controller
private dir = {place}/ad/private
state directory = {place}/ad/state
lock directory = {place}/ad
cache directory = {place}/ad/cache
pid directory = {place}/run
ncalrpc dir = {place}/run/ncalrpc
ntp signd socket directory = {place}/run/ntp
winbindd socket directory = {place}/run/winbindd
log file = {place}/log
logging = file
tls certfile = {place}/tls.pem
tls keyfile = {place}/tls.key
tls cafile = {place}/authority.pem
"""


@dataclass
class Domain:
    """The domain while it runs. `administrator`: a connection that may change it."""

    address: str
    other: str  # of the same server, and not in its certificate
    place: Path
    process: subprocess.Popen[bytes]
    administrator: Any

    def settings(self, **changes: Any) -> DirectorySettings:
        given: dict[str, Any] = {
            "name": "ad",
            "host": self.address,
            "port": 636,
            "tls_first": True,
            "base": BASE,
            "bind": f"CN=leadglass,{STAFF}",
            "password": "file:password",
            "roles": {READERS: Role.RADIOLOGIST, TECHNOLOGISTS: Role.TECHNOLOGIST},
            "authority": "authority.pem",
        }
        return DirectorySettings(**{**given, **changes})

    def add(self, name: str, dn: str = "", control: int = _NORMAL, **more: object) -> str:
        dn = dn or f"CN={name},{STAFF}"
        self.does(
            self.administrator.add,
            dn,
            "user",
            {
                "sAMAccountName": name,
                "unicodePwd": f'"{PASSWORD}{name}"'.encode("utf-16-le"),
                "userAccountControl": str(control),
                "displayName": f"The {name}",
                "mail": f"{name}@hosp.test",
                **more,
            },
        )
        return dn

    def put(self, member: str, group: str) -> None:
        self.does(self.administrator.modify, group, {"member": [(ldap3.MODIFY_ADD, [member])]})

    def take(self, member: str, group: str) -> None:
        self.does(self.administrator.modify, group, {"member": [(ldap3.MODIFY_DELETE, [member])]})

    def set(self, dn: str, **values: object) -> None:
        self.does(
            self.administrator.modify, dn, {name: [(ldap3.MODIFY_REPLACE, [str(v)])] for name, v in values.items()}
        )

    def does(self, act: Any, *arguments: object) -> None:
        assert act(*arguments), self.administrator.result


def filetime(when: dt.datetime) -> int:
    """As Active Directory counts: 100 ns since 1601."""
    return int((when - dt.datetime(1601, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1)) * 10


@contextmanager
def domain(place: Path) -> Iterator[Domain]:
    samba, tool = require("samba"), require("samba-tool")
    if os.geteuid() != 0:
        reason = "a domain controller listens on ports 389 and 636: it needs root"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    address, other = _own_address(), _own_address()
    _certificates(place, address)
    (place / "run").mkdir()
    (place / "smb.conf").write_text(_CONFIGURATION.format(address=address, other=other, place=place))
    (place / "password").write_text(f"{PASSWORD}leadglass")
    (place / "password").chmod(0o600)
    made = [
        tool, "domain", "provision", "--realm=HOSP.TEST", "--domain=HOSP", "--server-role=dc", "--dns-backend=SAMBA_INTERNAL",
        f"--adminpass={_ADMINISTRATOR}", f"--targetdir={place / 'ad'}", "--host-name=DC", f"--host-ip={address}",
        "--option=interfaces=lo", "--option=bind interfaces only=yes", "--option=dns forwarder=",
    ]  # fmt: skip
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(place)}
    done = subprocess.run(made, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command = [samba, "--interactive", "--model=single", f"--configfile={place / 'smb.conf'}"]
    with (place / "samba.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        administrator = _administrator(place, address, process)
        running = Domain(address, other, place, process, administrator)
        _populate(running)
        yield running
        administrator.unbind()
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _own_address() -> str:
    """Of 127/8, where nobody listens on LDAP's ports: they cannot be chosen."""
    chance = random.SystemRandom()
    for _ in range(50):
        address = f"127.{chance.randrange(1, 255)}.{chance.randrange(1, 255)}.{chance.randrange(1, 255)}"
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind((address, 389))
                other.bind((address, 636))
            except OSError:
                continue
            return address
    raise AssertionError("no free address")


def _certificates(place: Path, address: str) -> None:
    now = dt.datetime.now(dt.UTC)
    authority, key = Authority.create("test authority", now), new_key(KeyKind.RSA)
    (place / "authority.pem").write_bytes(pem(authority.certificate))
    (place / "other.pem").write_bytes(pem(Authority.create("test authority", now).certificate))
    (place / "tls.pem").write_bytes(pem(authority.issue(key.public_key(), address, [address], now, 30)))
    (place / "tls.key").write_bytes(key_pem(key, None))
    (place / "tls.key").chmod(0o600)


def _administrator(place: Path, address: str, process: subprocess.Popen[bytes]) -> Any:
    context = ssl.create_default_context(cafile=place / "authority.pem")
    until = time.monotonic() + START_SECONDS_MAX
    while True:
        server = ldap3.Server(address, port=636, use_ssl=True, tls=_Tls(context, address), get_info=ldap3.NONE)
        connection = ldap3.Connection(server, "Administrator@hosp.test", _ADMINISTRATOR, receive_timeout=60)
        try:
            if connection.bind(read_server_info=False):
                return connection
        except ldap3.core.exceptions.LDAPException:
            if connection.socket is not None:
                connection.socket.close()
        if process.poll() is not None or time.monotonic() > until:
            raise AssertionError((place / "samba.log").read_text(errors="replace")[-4000:])
        time.sleep(0.1)


def _populate(running: Domain) -> None:
    """alice reads CT, whose readers are readers, who are everybody; bob is a technologist; erin is in no group that counts."""
    running.does(running.administrator.add, STAFF, "organizationalUnit")
    for group in (READERS, CT_READERS, TECHNOLOGISTS, EVERYBODY):
        name = group.partition("=")[2].partition(",")[0]
        plain: Mapping[str, str] = {"sAMAccountName": "".join(filter(str.isalnum, name))}
        running.does(running.administrator.add, group, "group", plain)
    running.put(CT_READERS, READERS)
    running.put(READERS, EVERYBODY)
    running.add("leadglass")
    running.put(running.add("alice"), CT_READERS)
    running.put(running.add("bob"), TECHNOLOGISTS)
    running.put(running.add("erin"), EVERYBODY)
