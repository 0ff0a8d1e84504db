"""What an answer means, and what no answer means; and nothing is ever sent to anybody else."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from leadglass.doors.probing.hosts import hosts, said, word
from leadglass.doors.probing.prober import Probe, Prober
from leadglass.policy.firewall.truth import Heard, Judged, Target, judge
from tests.policy.firewall.sites import lab

NOBODY, THERE, LISTENS = Target(False, False), Target(False, True), Target(True, True)
AGREES, DIFFERS, UNKNOWN = Judged.AGREES, Judged.DIFFERS, Judged.UNKNOWN


@pytest.mark.parametrize(
    ("expected", "heard", "protocol", "target", "judged"),
    [
        (True, Heard.ECHO, "tcp", LISTENS, AGREES),
        (True, Heard.ANSWER, "udp", THERE, AGREES),
        (False, Heard.ECHO, "udp", LISTENS, DIFFERS),
        (False, Heard.ANSWER, "tcp", NOBODY, DIFFERS),
        (False, Heard.SILENCE, "tcp", NOBODY, AGREES),
        (False, Heard.UNREACHABLE, "udp", LISTENS, AGREES),
        (True, Heard.SILENCE, "tcp", LISTENS, DIFFERS),
        (True, Heard.SILENCE, "udp", LISTENS, DIFFERS),
        (True, Heard.UNREACHABLE, "tcp", THERE, DIFFERS),
        (True, Heard.SILENCE, "tcp", NOBODY, UNKNOWN),
        (True, Heard.SILENCE, "udp", THERE, UNKNOWN),
        (True, Heard.RESET, "tcp", NOBODY, UNKNOWN),
        (False, Heard.RESET, "tcp", THERE, UNKNOWN),
        (True, Heard.RESET, "tcp", LISTENS, DIFFERS),
        (False, Heard.RESET, "udp", LISTENS, AGREES),
    ],
)
def test_what_an_answer_means(expected: bool, heard: Heard, protocol: str, target: Target, judged: Judged) -> None:
    found, why = judge(expected, heard, protocol, target)
    assert found is judged and bool(why) == (found is not AGREES)


def test_whatever_gets_through_where_it_should_not_is_never_a_maybe() -> None:
    for heard in (Heard.ECHO, Heard.ANSWER):
        for target in (NOBODY, THERE, LISTENS):
            assert judge(False, heard, "tcp", target)[0] is DIFFERS


def test_nothing_is_sent_to_an_address_that_is_nobodys() -> None:
    known = hosts(lab())
    prober = Prober(tuple(known.values()), wait_seconds=0.1, rate=1000)
    for strange in ("10.20.1.12", "8.8.8.8", "127.0.0.1", "::1"):
        aim = Probe(known["CT01"], known["archive"], ip_address(strange), "tcp", 80, False)
        with pytest.raises(ValueError, match="no address of a host of the site file"):
            prober.probe([aim])


def test_hosts_are_those_with_an_address_of_their_own() -> None:
    assert set(hosts(lab())) == {"archive", *lab().devices}
    assert all(len(each.addresses) == 2 for each in hosts(lab()).values())


def test_a_probe_says_which_it_is() -> None:
    assert said(word(7, 9, "CT1")) == (7, 9, "CT1")
    assert said(b"GET / HTTP/1.1") is None and said(b"leadglass-probe/1 ") is None and said(b"x" * 5000) is None
    assert len(word(1, 1, "x" * 500)) <= 200
