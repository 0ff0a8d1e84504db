"""What strace wrote of calls in which a process was killed: whatever is replayed after a power cut must have been carried out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.siege.recorder import NotUnderstood, operations_of
from tests.siege.replay import Kind, Operation

SITE = Path("/tmp/site")
FILE = "".join(f"\\x{byte:02x}" for byte in b"/tmp/site/index.db-wal")
AT = "41 1795901388.470066"
KILLED = "41 1795901388.484395 +++ killed by SIGKILL +++\n"
LENGTH = ", 4, 4096"


def made(*lines: str, place: Path) -> list[tuple[Operation, bool]]:
    trace = place / "trace"
    trace.write_text("".join(lines))
    return list(operations_of(SITE, [trace]))


def test_a_write_that_was_broken_off_is_what_it_would_have_written(tmp_path: Path) -> None:
    line = f'{AT} pwrite64(10<{FILE}>, "\\x61\\x62\\x63\\x64"{LENGTH} <unfinished ...>\n'
    ((write, killed),) = made(line, KILLED, place=tmp_path)
    assert killed
    assert (write.kind, write.path, write.offset, write.data) == (Kind.WRITE, "index.db-wal", 4096, b"abcd")


@pytest.mark.parametrize(
    "call",
    [
        f"pwrite64(10<{FILE}>, 0x55996a3c2bec{LENGTH}",
        f"write(10<{FILE}>, 0x55996a3c2bec, 4",
        f"openat(AT_FDCWD<{FILE}>, 0x55996a3c2bec, O_RDWR|O_CREAT, 0600",
        f'rename("{FILE}", 0x55996a3c2bec',
    ],
)
@pytest.mark.parametrize("end", [" <unfinished ...>\n" + KILLED, ") = ?\n" + KILLED])
def test_what_died_before_its_arguments_were_read_was_never_called(call: str, end: str, tmp_path: Path) -> None:
    assert made(f"{AT} {call}{end}", place=tmp_path) == []


def test_what_returned_without_its_bytes_is_no_recording(tmp_path: Path) -> None:
    line = f"{AT} pwrite64(10<{FILE}>, 0x55996a3c2bec{LENGTH}) = 4 <0.000010>\n"
    with pytest.raises(NotUnderstood):
        made(line, place=tmp_path)
