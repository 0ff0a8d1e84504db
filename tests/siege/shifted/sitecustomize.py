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


class _Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _real.now(tz) + datetime.timedelta(seconds=_seconds())


if _FILE:
    _time, _time_ns, _localtime, _real = time.time, time.time_ns, time.localtime, datetime.datetime
    time.time = lambda: _time() + _seconds()
    time.time_ns = lambda: _time_ns() + _seconds() * 1_000_000_000
    datetime.datetime = _Shifted  # type: ignore[misc]
