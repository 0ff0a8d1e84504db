"""What runs on the hosts of `networked.py`: small programs, each given to an interpreter of its own in a namespace."""

from __future__ import annotations

# Whoever loads the table. Loaded as root, because the interpreter may lie where nobody else can read; its `nft` is another one in its own mounts;
# then another user with CAP_NET_ADMIN and nothing else.
SERVE = """
import ctypes, os, struct, subprocess, sys
import leadglass.doors.processes.firewall
from leadglass.__main__ import assemble, main
from leadglass.doors.command.application import run_application
sys.stderr = open(os.devnull, "w")
run_application(assemble, ["--site", "/", "serve", "nothing"])  # says so, and has loaded what a command needs
sys.stderr = sys.__stderr__
wrapper, nft, uid = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
subprocess.run(["mount", "--bind", wrapper, nft], check=True)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setgroups([]); os.setgid(uid); os.setuid(uid)
admin = 1 << 12  # CAP_NET_ADMIN
header, sets = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", admin, admin, admin, 0, 0, 0)
assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
assert libc.prctl(47, 2, 12, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_CAP_AMBIENT_RAISE
sys.exit(main())
"""

# In the place of nft, for whoever loads the table: what it does is written in a file.
NFT = """#!/bin/sh
case "$(cat {does}) $1" in
    "refuse -c") echo "Error: no room in this kernel" >&2; exit 1;;
    missing*) exit 127;;
    "die-before -f") kill -9 $PPID; exit 1;;
    "die-after -f") {nft} "$@"; kill -9 $PPID; exit 1;;
esac
exec {nft} "$@"
"""

# One question at the command socket, as another user.
ASK = """
import os, socket, sys, encodings.idna
path, uid, line = sys.argv[1], int(sys.argv[2]), sys.stdin.read()
os.setgroups([]); os.setgid(uid); os.setuid(uid)
sock = socket.socket(socket.AF_UNIX); sock.connect(path)
with sock, sock.makefile("rwb") as stream:
    stream.write(line.encode()); stream.flush()
    sys.stdout.write(stream.read().decode())
"""

# Says what every try to connect came to, one word a line: all at once, then waited for together.
TRY = """
import errno, os, select, socket, sys, time
tries, told, poll = [], {}, select.poll()
for line in sys.stdin.read().split():
    host, port = line.rsplit(",", 1)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    code = sock.connect_ex((host, int(port)))
    tries.append(sock)
    if code != errno.EINPROGRESS:
        told[sock.fileno()] = "open" if code == 0 else os.strerror(code)
    else:
        poll.register(sock, select.POLLOUT)
by_number = {each.fileno(): each for each in tries}
end = time.monotonic() + float(sys.argv[1])
while len(told) < len(tries) and time.monotonic() < end:
    for number, _ in poll.poll(50):
        poll.unregister(number)
        code = by_number[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        told[number] = "open" if code == 0 else os.strerror(code)
for number in by_number:
    print(told.get(number, "dropped"))
"""

# Answers whatever comes, for whoever connects, over IPv4 and IPv6.
ANSWER = """
import socket, sys, threading
def answer(sock):
    with sock:
        try:
            while said := sock.recv(65536):
                sock.sendall(said[:64])
        except OSError:
            pass
listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
"""

# Connects, then says something ten times a second; each answer is a line with its time.
TALK = """
import socket, sys, time
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
sock.settimeout(30)
while True:
    sock.sendall(b"still there?")
    if not sock.recv(64):
        break
    print(time.time(), flush=True)
    time.sleep(0.1)
"""

# A modality in the middle of one long instance: each piece that archive's host has taken is a line with its time.
STORE = """
import fcntl, random, struct, sys, termios, time
from pathlib import Path
from leadglass.lab.peers import Archive, Identity, associated, storing
from leadglass.wire.dimse import Command, encode_command
from tests.synthetic import image
own, archive, stick = sys.argv[1:4]
one = image(random.Random(61), pixels=4_000_000)
with associated(Identity("CT01", own, Path(stick)), Archive(archive, 2762), storing([one])) as session:
    association, connection = session._messages.association, session._messages.connection
    (context,) = association.contexts
    command = Command.c_store_rq(1, one.sop_class_uid, one.sop_instance_uid)
    association.send_data(context, is_command=True, payload=encode_command(command), is_last=True)
    for at in range(0, len(one.data_set), 8192):
        association.send_data(context, is_command=False, payload=one.data_set[at : at + 8192], is_last=False)
        connection.write(association.data_to_send())
        while struct.unpack("i", fcntl.ioctl(connection.socket, termios.TIOCOUTQ, bytes(4)))[0]:
            time.sleep(0.01)
        print(time.time(), flush=True)
        time.sleep(0.1)
"""

# A workstation with an open association: each query that is answered is a line with its time.
FIND = """
import sys, time
from pathlib import Path
from leadglass.lab.peers import Archive, Identity, associated, querying
from leadglass.wire import tags
own, archive, stick = sys.argv[1:4]
with associated(Identity("WS01", own, Path(stick)), Archive(archive, 2762), querying()) as session:
    while session.find("STUDY", {tags.STUDY_INSTANCE_UID: ""})[0].status == 0:
        print(time.time(), flush=True)
        time.sleep(0.1)
"""

# One instance from the modality to archive, or from archive to the workstation; says how it went.
TRANSFER = """
import random, sys
from pathlib import Path
from leadglass.lab.peers import Archive, Identity, associated, getting, storing
from leadglass.wire import tags
from tests.synthetic import image
which, own, archive, stick, patient, study = sys.argv[1:7]
one = image(random.Random(9), study=study, patient=patient, pixels=200_000)
came = []
if which == "store":
    with associated(Identity("CT01", own, Path(stick)), Archive(archive, 2762), storing([one])) as session:
        print(session.store(one).status)
else:
    with associated(Identity("WS01", own, Path(stick)), Archive(archive, 2762), getting([(one.sop_class_uid, one.transfer_syntax_uid)])) as session:
        session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, lambda each: came.append(each.data_set) or 0)
    print(sum(patient.encode() in each for each in came))
"""

# Somebody's browser: enrols by a link, signs in, and looks at a page ten times a second; each time that it is theirs is a line with its time.
BROWSE = """
import socket, ssl, sys, time
import httpx2
name, address, authority, link = sys.argv[1:5]
known = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: known(address if host == name else host, *rest, **named)
context, make = ssl.create_default_context(cafile=authority), httpx2.Client
httpx2.Client = lambda **named: make(verify=context, trust_env=False, **named)
from leadglass.lab.reader import Reader
with Reader(f"https://{name}") as reader:
    assert reader.enrol(link) and reader.sign_in()
    while reader.lands("/me") == "/me" and reader.look("/me") == 200:
        print(time.time(), flush=True)
        time.sleep(0.1)
"""
