"""How are an instance's bytes sealed? AES-256-GCM in chunks of 64 KiB under a random key of the instance's own. Pure.

An instance key seals one instance and nothing else, so that nonces can be counters: (domain, index), never repeated under one key.
The associated data binds each chunk to its instance, its place and to being the last one: no chunk can be dropped, swapped or moved.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK_LENGTH_MAX_BYTES = 64 << 10  # plaintext
TAG_LENGTH_BYTES = 16
KEY_LENGTH_BYTES = 32
INSTANCE_ID_LENGTH_BYTES = 16
FRAME_HEAD_LENGTH_BYTES = 4
FRAME_LENGTH_MAX_BYTES = FRAME_HEAD_LENGTH_BYTES + CHUNK_LENGTH_MAX_BYTES + TAG_LENGTH_BYTES
FINAL_BIT = 1 << 31
_CHUNK, _PREAMBLE, _TRAILER = 0, 1, 2  # nonce domains
_CHUNK_CONTEXT = b"leadglass/chunk/1"
_NONCE = struct.Struct(">IQ")
_PLACE = struct.Struct(">QB")
_FRAME = struct.Struct(">I")


class SealBroken(Exception):
    """Bytes are not what was sealed: a frame's length is impossible, or a tag does not verify. `where`: what does not verify."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} does not verify")
        self.where = where


class InstanceSeal:
    """Seals and opens what belongs to one instance. Not thread-safe; `key` never appears in a repr."""

    __slots__ = ("_aead", "_context", "instance_id", "key")

    def __init__(self, instance_id: bytes, key: bytes) -> None:
        assert (len(instance_id), len(key)) == (INSTANCE_ID_LENGTH_BYTES, KEY_LENGTH_BYTES)
        self.instance_id, self.key = instance_id, key
        self._aead = AESGCM(key)
        self._context = _CHUNK_CONTEXT + instance_id

    def seal_chunk(self, index: int, plaintext: memoryview, into: memoryview, *, final: bool) -> int:
        """Writes one frame to the start of `into`; its length in bytes."""
        length = len(plaintext)
        assert length <= CHUNK_LENGTH_MAX_BYTES
        _FRAME.pack_into(into, 0, length | (FINAL_BIT if final else 0))
        end = FRAME_HEAD_LENGTH_BYTES + length + TAG_LENGTH_BYTES
        place = self._context + _PLACE.pack(index, final)
        self._aead.encrypt_into(_NONCE.pack(_CHUNK, index), plaintext, place, into[FRAME_HEAD_LENGTH_BYTES:end])
        return end

    def open_chunk(self, index: int, sealed: memoryview, into: memoryview, *, final: bool) -> int:
        """Writes the plaintext of one frame's ciphertext and tag to the start of `into`; its length. Raises SealBroken."""
        length = len(sealed) - TAG_LENGTH_BYTES
        place = self._context + _PLACE.pack(index, final)
        try:
            self._aead.decrypt_into(_NONCE.pack(_CHUNK, index), sealed, place, into[:length])
        except InvalidTag:
            raise SealBroken(f"chunk {index}") from None
        return length

    def seal_preamble(self, plaintext: bytes) -> bytes:
        """Preamble and group 2 of a file that arrived as one, as a frame; an empty frame where there was none."""
        if not plaintext:
            return _FRAME.pack(0)
        sealed = self._aead.encrypt(_NONCE.pack(_PREAMBLE, 0), plaintext, b"leadglass/preamble/1" + self.instance_id)
        return _FRAME.pack(len(plaintext)) + sealed

    def open_preamble(self, sealed: bytes) -> bytes:
        """Raises SealBroken."""
        return self._open(_PREAMBLE, sealed, b"leadglass/preamble/1" + self.instance_id, "the preamble")

    def seal_trailer(self, plaintext: bytes, binding: bytes) -> bytes:
        """`binding` says which record of which segment of which writer it is."""
        context = b"leadglass/trailer/1" + self.instance_id + binding
        return self._aead.encrypt(_NONCE.pack(_TRAILER, 0), plaintext, context)

    def open_trailer(self, sealed: bytes, binding: bytes) -> bytes:
        """Raises SealBroken."""
        return self._open(_TRAILER, sealed, b"leadglass/trailer/1" + self.instance_id + binding, "the trailer")

    def _open(self, domain: int, sealed: bytes, context: bytes, where: str) -> bytes:
        try:
            return self._aead.decrypt(_NONCE.pack(domain, 0), sealed, context)
        except InvalidTag:
            raise SealBroken(where) from None


def sealed_empty(seal: InstanceSeal) -> bytes:
    """A body that holds nothing: one empty chunk, no preamble."""
    body = bytearray(FRAME_HEAD_LENGTH_BYTES + TAG_LENGTH_BYTES)
    seal.seal_chunk(0, memoryview(b""), memoryview(body), final=True)
    return bytes(body) + seal.seal_preamble(b"")


def frame_of(head: bytes | memoryview, offset: int = 0) -> tuple[int, bool]:
    """Plaintext length and whether it is the last one. Raises SealBroken where no frame can be so long."""
    (word,) = _FRAME.unpack_from(head, offset)
    length, final = word & ~FINAL_BIT, bool(word & FINAL_BIT)
    if length > CHUNK_LENGTH_MAX_BYTES or (length < CHUNK_LENGTH_MAX_BYTES and not final):
        raise SealBroken("a chunk's length")
    return length, final


def frames(body: memoryview) -> Iterator[tuple[int, memoryview, bool]]:
    """Each frame of a whole sealed body: index, ciphertext with tag, final. Raises SealBroken where they do not add up."""
    position, index, final = 0, 0, False
    while not final:
        if len(body) - position < FRAME_HEAD_LENGTH_BYTES:
            raise SealBroken(f"chunk {index}")
        length, final = frame_of(body, position)
        start = position + FRAME_HEAD_LENGTH_BYTES
        position = start + length + TAG_LENGTH_BYTES
        if position > len(body):
            raise SealBroken(f"chunk {index}")
        yield index, body[start:position], final
        index += 1
    if position != len(body):
        raise SealBroken("the end of the body")
