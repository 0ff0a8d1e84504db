"""A wrong clock for one site's processes: real time and the seconds in the file that SHIFTED_CLOCK names. The monotonic clock stays right.

Loaded instead of being preloaded below Python, because the usual library for that breaks `time.sleep` of Python 3.11.
"""

from __future__ import annotations

import datetime
import os
import time
from typing import Any

_FILE = os.environ.get("SHIFTED_CLOCK", "")


def _seconds() -> int:
    with open(_FILE) as file:
        return int(file.read() or 0)


class _Either(type):
    """What was made before the class was exchanged, or by arithmetic, is one of its own."""

    def __instancecheck__(cls, found: object) -> bool:
        return isinstance(found, _real)


class _Shifted(datetime.datetime, metaclass=_Either):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return super().now(tz) + datetime.timedelta(seconds=_seconds())


_real = datetime.datetime
if _FILE:
    _time, _time_ns, _localtime = time.time, time.time_ns, time.localtime
    time.time = lambda: _time() + _seconds()
    time.time_ns = lambda: _time_ns() + _seconds() * 1_000_000_000
    datetime.datetime = _Shifted  # type: ignore[misc]
