"""An association in the middle of a transfer, for tests and the bench: how long does it go on after something changed?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from leadglass.lab.corpus import Image
from leadglass.lab.peers import Answer, Received, Session, TurnedAway, associated, getting
from leadglass.terms import EventKind
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from leadglass.wire.negotiation import RequestedContext
from tests.staff import Staff

PAUSE_SECONDS = 0.03  # between two instances: the transfer lasts longer than anybody waits
NOT_AUTHORIZED = 0x0124


@dataclass
class Transfer:
    """What WS1 asks for, in a thread of its own, answered by many instances or rows; `enough` of them have come when it is there."""

    people: Staff
    ask: Callable[[Session, Callable[[], None]], Answer]
    contexts: list[RequestedContext]
    token: str = ""
    enough: int = 5
    taken: int = 0
    ordered: float = 0.0
    ended: float = 0.0
    answer: Answer | None = None
    heard: str = ""
    begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        begun = self.begun.wait(30) and not self.ended
        assert begun, f"nothing came: {self.answer} {self.heard} {self._refused()}"

    def _refused(self) -> str:
        """What the site says of it."""
        time.sleep(1.0)  # until it is durable
        told = [*self.people.events(EventKind.ASSOCIATION_REFUSED), *self.people.events(EventKind.REQUEST_REFUSED)]
        return "; ".join(each.reason for each in told[-2:])

    def _run(self) -> None:
        workstation = self.people.at("WS1", token=self.token)
        try:
            with associated(workstation, self.people.archive, self.contexts) as session:
                self.answer = self.ask(session, self._take)
        except TurnedAway as away:
            self.heard = str(away)
        finally:
            self.ended = time.monotonic()
            self.begun.set()

    def _take(self) -> None:
        self.taken += 1
        if self.taken == self.enough:
            self.begun.set()

    def after(self, change: Callable[[], object]) -> float:
        """Seconds from the answer to a change until the transfer had ended, which it did before its own end."""
        self.ordered = time.monotonic()
        change()
        done = time.monotonic()
        self.thread.join(30)
        assert not self.thread.is_alive(), "it went on"
        assert self.answer is None or self.answer.status == NOT_AUTHORIZED, self.answer
        return self.ended - done


def get(people: Staff, images: Sequence[Image], *, pause_seconds: float = PAUSE_SECONDS, **words: Any) -> Transfer:
    """A C-GET of one study, by a peer that takes its time with each instance."""

    def ask(session: Session, took: Callable[[], None]) -> Answer:
        def take(instance: Received) -> int:
            took()
            time.sleep(pause_seconds)
            return Status.SUCCESS

        return session.get("STUDY", {tags.STUDY_INSTANCE_UID: images[0].study_instance_uid}, take)

    pairs = {(each.sop_class_uid, each.transfer_syntax_uid) for each in images}
    return Transfer(people, ask, getting(pairs), **words)
