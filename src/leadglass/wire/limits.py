"""How much may one peer cost before and after it is known? Each bound of the upper layer, with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """Bounds of one association; whoever passes one is refused at the first byte that shows it.

    `associate_rq_length_max_bytes`: of an A-ASSOCIATE-RQ or -AC. 128 contexts with 16 transfer syntaxes each take 60 KiB.
    `pdu_length_max_bytes`: the P-DATA-TF length we announce (PS3.8 D.1) and the longest one we send, whatever the peer allows.
    `peer_pdu_length_min_bytes`: a peer that announces less would make us spend a header on every few bytes.
    `presentation_contexts_max`: odd identifiers of one byte leave room for 128 (PS3.8 9.3.2.2).
    `transfer_syntaxes_per_context_max`: the Standard has about 60 in all.
    `user_information_length_max_bytes`: room for a SAML assertion (PS3.7 D.3.3.7).
    `user_information_items_max`: roles and extended negotiations of 128 contexts, and what else there is once.
    `command_set_length_max_bytes`: the longest useful command set, with an Attribute Identifier List, has a few KiB.
    `command_fragments_max`: pieces in which one command set may arrive; TLS records and reads split it too.
    `empty_fragments_max`: presentation data values without data, one after the other.
    `artim_seconds`: the association request/reject/release timer (PS3.8 9.1.5).
    `receive_buffer_bytes`: what a connection may hold unread; P-DATA passes through it, only association PDUs wait in it.
    """

    associate_rq_length_max_bytes: int = 65_536
    pdu_length_max_bytes: int = 131_072
    peer_pdu_length_min_bytes: int = 512
    presentation_contexts_max: int = 128
    transfer_syntaxes_per_context_max: int = 64
    user_information_length_max_bytes: int = 32_768
    user_information_items_max: int = 512
    command_set_length_max_bytes: int = 65_536
    command_fragments_max: int = 1_024
    empty_fragments_max: int = 32
    artim_seconds: float = 30.0
    receive_buffer_bytes: int = 262_144

    def __post_init__(self) -> None:
        if self.receive_buffer_bytes < 2 * (self.associate_rq_length_max_bytes + PDU_HEADER_LENGTH_BYTES):
            raise ValueError("receive_buffer_bytes must hold two association PDUs: one that waits and room to read")
        if not self.peer_pdu_length_min_bytes > PDV_HEADERS_LENGTH_BYTES:
            raise ValueError(
                f"peer_pdu_length_min_bytes must exceed {PDV_HEADERS_LENGTH_BYTES}: a fragment needs room for data"
            )
        if not self.peer_pdu_length_min_bytes <= self.pdu_length_max_bytes <= 0xFFFFFFFF:
            raise ValueError("pdu_length_max_bytes must be a 32-bit length and at least peer_pdu_length_min_bytes")


PDU_HEADER_LENGTH_BYTES = 6  # type, reserved, length (PS3.8 9.3.1)
PDV_HEADERS_LENGTH_BYTES = 6  # item length, context identifier, message control header (PS3.8 9.3.5.1, E.2)
