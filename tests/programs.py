"""Which programs of other people does a test need? Skipped with the reason where one is missing, and never skipped in CI."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    **dict.fromkeys(
        ("echoscu", "storescu", "findscu", "movescu", "getscu", "storescp", "dcmdump", "dcmqrscp"), "dcmtk"
    ),
    "Orthanc": "orthanc",
    "samba": "samba",
    "samba-tool": "samba-common-bin",
    "chromium": "chromium",
    "strace": "strace",
    "nft": "nftables",
    "ip": "iproute2",
    "sysctl": "procps",
    "systemd-analyze": "systemd",
    "systemctl": "systemd",
    "tshark": "tshark",
    "exim4": "exim4-daemon-light",
    "patch": "patch",
    "openssl": "openssl",
    "socat": "socat",
}


def require(program: str) -> str:
    """The program's path; else the test is skipped, or fails where CI says that everything is there."""
    found = shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin") or shutil.which(program)
    if found:
        return found
    reason = f"{program} is not installed: apt-get install {PACKAGES.get(program, program)}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
