"""THE PATH. Whatever reaches a door goes through one of these functions, and only they write events.

    admit       who is it, and may they speak to us at all?         A-ASSOCIATE-RQ
    sign_in     which person is it, and is that proven?             passkey, password and code, provider, directory
    store       may they, is it what it says, where does it rest?   C-STORE
    release     may they, and what may they have?                   C-ECHO, C-FIND, C-GET, C-MOVE, Storage Commitment, what people look at
    change      what people do to the site itself                   enrol, revoke, apply, promote, rebuild
    keep_watch  what the keeper finds                               expiry, drift, corruption

A step returns a value or raises `Refused`. A record is written before the peer hears the answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from leadglass.audit import events
from leadglass.terms import (
    Arrived, Asker, Caller, Change, ChangePermit, Claimed, Conflicting, Detection, Event, Fault, Found, Incoming, Inspected, Offer, Operator, Peer,
    Permit, Progress, Proposal, Refused, Request, Settled, SignIn, Standing, Subject,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stages:  #                                                            the question           who answers
    identify: Callable[[Peer, Proposal], Awaitable[Subject]]  #             who is it?             identity/
    recognise: Callable[[Peer, SignIn], Awaitable[Caller]]  #               who sits there?        identity/
    decide: Callable[[Asker | Operator, Request | Proposal], Permit]  #     may they?              policy/   pure
    receive: Callable[[Offer, Permit, Incoming], Awaitable[Arrived]]  #     sealed and hashed      archive/
    inspect: Callable[[Arrived], Awaitable[Inspected]]  #                   is it what it says?    inspection/
    claim: Callable[[Inspected, Permit], Awaitable[Claimed]]  #             is the UID free?       archive/
    keep: Callable[[Claimed, Event], Awaitable[Settled]]  #                 durable with its event archive/
    publish: Callable[[Settled], Awaitable[None]]  #                        to be found            archive/
    open: Callable[[Request, Permit], Awaitable[Found]]  #                  what may they have?    archive/
    record: Callable[[Event], Awaitable[None]]  #                           durable or raises      audit/
    note: Callable[[Event], None]  #                                        synced within a second audit/
    authorise: Callable[[Change], ChangePermit]  #                          may they change this?  policy/
    perform: Callable[[Change], Awaitable[Mapping[str, object]]]  #         do it                  doors/command


@dataclass(frozen=True, slots=True)
class Admission:
    """An association that may speak: who it is, and the rule that said so."""

    subject: Subject
    permit: Permit


@asynccontextmanager
async def admit(do: Stages, peer: Peer, proposal: Proposal) -> AsyncIterator[Admission]:
    try:
        subject = await do.identify(peer, proposal)
        permit = do.decide(subject, proposal)
    except Refused as refusal:
        await _refused(do, events.association_refused(peer, proposal, refusal), refusal)
        raise
    await do.record(events.association_admitted(subject, permit))
    progress = Progress()
    try:
        with progress:
            yield Admission(subject, permit)
            progress.succeed()
    finally:
        do.note(events.association_ended(subject, permit, progress))


async def sign_in(do: Stages, peer: Peer, claim: SignIn) -> Caller:
    try:
        caller = await do.recognise(peer, claim)
    except (Refused, Fault) as refusal:
        await _refused(do, events.person_refused(peer, claim, refusal), refusal)
        raise
    await do.record(events.person_recognised(claim, caller))
    return caller


async def sign_in_lost(
    do: Stages, peer: Peer, claim: SignIn, why: Refused | Fault
) -> None:  # it ended where there was nothing to recognise yet
    await _refused(do, events.person_refused(peer, claim, why), why)


async def turn_away(do: Stages, peer: Peer, refusal: Refused) -> None:  # no TLS, no A-ASSOCIATE-RQ in time, no command
    await _refused(do, events.turned_away(peer, refusal), refusal)


async def store(do: Stages, offer: Offer, body: Incoming) -> Settled:
    try:
        permit = do.decide(offer.subject, offer)  # before the first byte of the data set is read
        arrived = await do.receive(offer, permit, body)
        inspected = await do.inspect(arrived)
        claimed = await do.claim(inspected, permit)
        if claimed.settled is not None:  # sent before: said again, kept once
            settled = claimed.settled
            await do.record(events.repeated(claimed, settled))
        else:
            event = events.stored(claimed)
            settled = await do.keep(claimed, event)
            do.note(events.settled_as(event, settled))
            await do.publish(settled)
        if settled.standing in (Standing.HELD, Standing.REJECTED):
            raise Conflicting.held(settled)
    except (Refused, Fault) as refusal:
        await _refused(do, events.request_refused(offer, refusal), refusal)
        raise
    return settled


@asynccontextmanager
async def release(do: Stages, request: Request) -> AsyncIterator[Found]:
    try:
        permit = do.decide(request.subject, request)
        found = await do.open(request, permit)
    except (Refused, Fault) as refusal:
        await _refused(do, events.request_refused(request, refusal), refusal)
        raise
    await do.record(events.release_started(request, permit, found.progress))  # the record leaves first, then the pixels
    try:
        with found.progress:
            yield found
    finally:
        do.note(events.release_ended(request, permit, found.progress))


async def change(do: Stages, order: Change) -> Mapping[str, object]:
    try:
        permit = do.authorise(order)
    except Refused as refusal:
        await do.record(events.change_refused(order, refusal))
        raise
    await do.record(events.change_intended(order, permit))
    try:
        result = await do.perform(order)
    except (Refused, Fault) as failure:
        await do.record(events.change_abandoned(order, permit, failure))
        raise
    await do.record(events.change_completed(order, permit))
    return result


async def keep_watch(do: Stages, found: Iterable[Detection]) -> None:
    for detection in found:
        await do.record(events.detected(detection))


async def _refused(do: Stages, event: Event, refusal: Refused | Fault) -> None:
    await do.record(event)
    refusal.recorded = True
