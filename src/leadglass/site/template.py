"""What does `leadglass init` write? A site file that says what it is and allows nothing."""

from __future__ import annotations

import json


def new_site_file(name: str, *, loopback: bool, listen: str, key: str) -> str:
    """A commented leadglass.toml: deny is the only default, and nothing is enrolled."""
    zone = '[zones.loopback]\nnetworks = ["127.0.0.0/8"]\n' if loopback else (
        "# Zones do not overlap; a device belongs to the zone that holds its network.\n"
        '# [zones.modalities]\n# networks = ["10.20.1.0/24"]\n# tags = ["phi"]\n'
    )  # fmt: skip
    port = 0 if loopback else 9276  # one of its own for each of many trial sites; `leadglass status` says which
    web = (
        '[doors.web]\nlisten = "127.0.0.1:0"\n\n[doors.console]\nlisten = "127.0.0.1:0"\n\n'
        if loopback
        else '[doors.web]\nlisten = "0.0.0.0:443"\n# certificate = "/etc/leadglass/web.pem"  # from a CA that browsers here trust\n\n'
    )
    metrics = f'[doors.metrics]\nlisten = "127.0.0.1:{port}"\n\n'
    return f"""# Leadglass site file. Deny is the only default: no order, no deny rules to get wrong.
# `leadglass check` proves it and says who gains and loses what; `leadglass apply` makes it act.
# Devices enrolled by command lie in devices.d/, in the same form. Every key: docs/site-file.md.
schema = 1

[site]
name = {json.dumps(name)}
loopback = {"true" if loopback else "false"}
objects = "file:objects"
index = "sqlite:index/index.db"
key = {json.dumps(key)}

[doors.dimse]
listen = {json.dumps(listen)}
ae_title = "LEADGLASS"

{web}{metrics}{zone}"""
