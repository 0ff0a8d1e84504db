"""Sets of packets against counting every packet one by one, in a world of eight addresses and six ports."""

from __future__ import annotations

import ipaddress
import itertools

from hypothesis import given
from hypothesis import strategies as st

from leadglass.policy.firewall.boxes import TCP, UDP, Box, Span, beyond, canonical, joined

ADDRESSES, PORTS = 8, 6
Packet = tuple[str, int, int, int]


def spans() -> st.SearchStrategy[Span]:
    ends = st.tuples(st.integers(0, ADDRESSES - 1), st.integers(0, ADDRESSES - 1))
    return ends.map(lambda pair: Span(4, min(pair), max(pair)))


def boxes() -> st.SearchStrategy[list[Box]]:
    ports = st.tuples(st.integers(0, PORTS - 1), st.integers(0, PORTS - 1)).map(sorted)
    box = st.builds(
        lambda protocol, source, target, ends: Box(protocol, source, target, *ends),
        st.sampled_from((TCP, UDP)),
        spans(),
        spans(),
        ports,
    )
    return st.lists(box, max_size=6)


def packets(of: list[Box] | tuple[Box, ...]) -> list[Packet]:
    """Each as often as a box holds it."""
    return [
        (box.protocol, source, target, port)
        for box in of
        for source in range(box.source.first, box.source.last + 1)
        for target in range(box.target.first, box.target.last + 1)
        for port in range(box.first_port, box.last_port + 1)
    ]


@given(boxes())
def test_the_canonical_form_holds_each_packet_once(some: list[Box]) -> None:
    found = packets(canonical(some))
    assert len(found) == len(set(found)) and set(found) == set(packets(some))


@given(boxes(), boxes())
def test_two_sets_are_equal_where_their_canonical_forms_are(one: list[Box], other: list[Box]) -> None:
    assert (canonical(one) == canonical(other)) == (set(packets(one)) == set(packets(other)))


@given(boxes())
def test_a_set_cut_into_single_packets_is_the_same_set(some: list[Box]) -> None:
    single = [Box(name, Span(4, a, a), Span(4, b, b), port, port) for name, a, b, port in packets(some)]
    assert canonical(single) == canonical(some)


@given(boxes(), boxes())
def test_what_is_beyond(one: list[Box], other: list[Box]) -> None:
    assert set(packets(beyond(one, other))) == set(packets(one)) - set(packets(other))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: (min(pair), max(pair)))))
def test_joined_ranges_neither_touch_nor_overlap(ranges: list[tuple[int, int]]) -> None:
    told = joined(ranges)
    assert {n for a, b in told for n in range(a, b + 1)} == {n for a, b in ranges for n in range(a, b + 1)}
    assert all(after > last + 1 for (_, last), (after, _) in itertools.pairwise(told))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_span_is_written_so_that_it_is_read_as_the_same(one: int, other: int) -> None:
    span = Span(4, min(one, other), max(one, other))
    first, _, last = str(span).partition("-")
    if last:
        assert (int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))) == (span.first, span.last)
    else:
        assert Span.of(ipaddress.ip_network(first)) == span
