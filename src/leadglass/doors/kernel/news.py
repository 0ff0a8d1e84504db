"""Did somebody change a table? The kernel tells it to whoever asks (linux/netfilter/nfnetlink.h, NFNLGRP_NFTABLES)."""

from __future__ import annotations

from leadglass.doors.kernel.netlink import Netlink, Overrun

_GROUP = 7
_MESSAGES_MAX = 10_000  # read at once: whoever changes tables without end is looked at all the same
_AT_ONCE = 0.0001


class TableNews:
    """From now on. Raises KernelFault."""

    def __init__(self) -> None:
        self._netlink = Netlink(group=_GROUP)

    def heard(self) -> bool:
        """True where a table changed since the last time, whoever did it. Raises KernelFault."""
        changed = False
        try:
            for _ in range(_MESSAGES_MAX):
                if not self._netlink.heard(_AT_ONCE):
                    break
                changed = True
        except Overrun:
            changed = True
        return changed
