"""How do most data sets come by? In P-DATA-TF of one value each, none of them the last: those are copied out in one loop, for there are very many."""

from __future__ import annotations

from leadglass.wire.limits import PDV_HEADERS_LENGTH_BYTES
from leadglass.wire.pdu import P_DATA_HEADER, PDV_COUNTED_BYTES, PduType

_P_DATA_TF = int(PduType.P_DATA_TF)
_HEADER_LENGTH_BYTES = P_DATA_HEADER.size
_UNCOUNTED_BYTES = PDV_HEADERS_LENGTH_BYTES - PDV_COUNTED_BYTES


def copy_values(
    view: memoryview, start: int, end: int, left: int, context_id: int, length_max_bytes: int, into: memoryview
) -> tuple[int, int, int]:
    """Data set bytes from `view[start:end]`: how many were copied, where reading goes on, and what is left of the value that begins before there.

    `left`: of the value that stands at `start`, and of its PDU; 0 where a PDU begins there. Stops, having read nothing of it, at whatever is
    not a P-DATA-TF of at most `length_max_bytes` with one value in that context, not empty, of a data set and not the last of it.
    """
    unpack, filled, room = P_DATA_HEADER.unpack_from, 0, len(into)
    while filled < room:
        if not left:
            if end - start < _HEADER_LENGTH_BYTES:
                break
            kind, length, counted, context, control = unpack(view, start)
            alone = (
                kind == _P_DATA_TF and context == context_id and not control and counted == length - _UNCOUNTED_BYTES
            )
            if not alone or not PDV_HEADERS_LENGTH_BYTES < length <= length_max_bytes:
                break
            start += _HEADER_LENGTH_BYTES
            left = length - PDV_HEADERS_LENGTH_BYTES
        count = min(left, end - start, room - filled)
        if not count:
            break
        stop = start + count
        into[filled : filled + count] = view[start:stop]
        filled, start, left = filled + count, stop, left - count
    return filled, start, left
