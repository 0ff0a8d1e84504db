"""What may they have? A permit's view of the index, and bodies that verify as they are read.

What a permit is confined to confines queries, retrievals and commitments alike, and what is not current is in none of them. A person who may
see none of what they name hears one and the same refusal, whether it is here or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from leadglass.archive.index import Index
from leadglass.archive.read import Reader
from leadglass.archive.visibility import Lasting, Recheck, Visibility
from leadglass.policy.people import nothing_seen
from leadglass.terms import (
    Body,
    Commitment,
    Export,
    Fault,
    Level,
    Permit,
    Progress,
    Query,
    Reference,
    Request,
    Retrieval,
    Root,
    Settled,
    Standing,
)
from leadglass.wire import tags

PROCESSING_FAILURE, NO_SUCH_OBJECT_INSTANCE, CLASS_INSTANCE_CONFLICT = 0x0110, 0x0112, 0x0119  # PS3.3 C.14.1.1


@dataclass(frozen=True, slots=True)
class Answer:
    """A `terms.Found`. What does not belong to its request is empty."""

    progress: Progress
    permit: Permit
    request: Request
    visible: Visibility
    index: Index
    reader: Reader
    lasting: Lasting

    def rows(self) -> Iterator[Mapping[int, str]]:
        """Answers of a query; empty for anything else."""
        if isinstance(self.request, Query):
            yield from self.index.find(self.request, self.visible)

    def instances(self) -> Iterator[Settled]:
        """What a retrieval selects; empty for anything else."""
        if (selected := selection_of(self.request)) is not None:
            yield from self.reader.expecting(self.index.select(selected, self.visible))

    def still(self) -> None:
        """Raises NotPermitted where the study of an export may not leave any more."""
        if isinstance(self.request, Export):
            self.lasting.still(self.request.study_instance_uid)

    def read(self, settled: Settled) -> Body:
        """Raises NotPermitted where its study may not be seen any more. Iterating raises Corrupted and other StoreFaults, KeyFault."""
        if self.visible.confined:
            self.lasting.still(settled.instance.study_instance_uid)
        return self.reader.read(settled)

    def verdicts(self) -> Iterator[tuple[Reference, int]]:
        """Each reference of a commitment with its failure reason, 0 where what this device sent is kept: read and verified just now."""
        if isinstance(self.request, Commitment):
            for reference in self.request.references:
                yield reference, self._verdict(reference)

    def _verdict(self, reference: Reference) -> int:
        device = self.permit.subject.actor
        versions = self.index.versions(reference.sop_instance_uid)
        current = next((each for each in versions if each.standing is Standing.CURRENT), None)
        classes = self.permit.sop_classes
        if current is None or (classes is not None and current.instance.sop_class_uid not in classes):
            return NO_SUCH_OBJECT_INSTANCE
        if not self.index.seen([current.instance.study_instance_uid], self.visible):
            return NO_SUCH_OBJECT_INSTANCE
        if current.instance.sop_class_uid != reference.sop_class_uid:
            return CLASS_INSTANCE_CONFLICT
        # Who sent several versions means the last. Who sent none of its own sent the current one again, which is kept once.
        sent = max((each for each in versions if each.sender == device), key=lambda each: each.version, default=current)
        if sent.standing not in (Standing.CURRENT, Standing.RENDITION):
            return PROCESSING_FAILURE
        try:
            for _ in self.reader.read(sent):
                pass
        except Fault:
            return PROCESSING_FAILURE
        return 0


def selection_of(request: Request) -> Retrieval | None:
    """What is read by a request; None where none is."""
    match request:
        case Retrieval():
            return request
        case Export():
            keys = {tags.STUDY_INSTANCE_UID: request.study_instance_uid}
            return Retrieval(request.subject, Root.STUDY, Level.STUDY, keys)
        case _:
            return None


class Release:
    """The `open` step. `rechecker`: what policy decides each study of a permit by, None where it is a device's."""

    def __init__(self, index: Index, reader: Reader, rechecker: Callable[[Permit], Recheck | None]) -> None:
        self._index, self._reader, self._rechecker = index, reader, rechecker

    async def open(self, request: Request, permit: Permit) -> Answer:
        """Raises StoreFault where the index does not answer, NotPermitted where nothing that was named may be seen, there or not."""
        visible = Visibility(permit.sop_classes, permit.studies, self._rechecker(permit))
        self._index.catch_up()  # whatever was answered with success before this is found, whoever kept it
        progress = Progress()
        match request:
            case Retrieval() | Export():
                selected = selection_of(request)
                assert selected is not None
                progress.total = self._index.count(selected, visible)
                if visible.confined and not progress.total:
                    raise nothing_seen(permit)
                if isinstance(request, Export) and request.patient != self._index.patient_of(
                    request.study_instance_uid
                ):
                    raise nothing_seen(permit)  # it became another's while it was asked for
            case Commitment():
                progress.total = len(request.references)
            case _:
                pass
        lasting = Lasting(lambda study: bool(self._index.seen([study], visible)))
        return Answer(progress, permit, request, visible, self._index, self._reader, lasting)
