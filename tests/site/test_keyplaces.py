"""Where keys lie: each is found where it was put, whichever of many; what is not there is not found across two that are."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from leadglass.site.keyplaces import Place, Places

IDS = st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=40)


@given(IDS, st.binary(min_size=16, max_size=16))
def test_each_is_found_where_it_was_put(ids: list[bytes], other: bytes) -> None:
    rng, places, put = random.Random(0), Places(), {}
    for number, key_id in enumerate(ids):
        writer = rng.choice([b"a" * 16, b"b" * 16])
        put[key_id] = Place(writer, Path(writer.decode()), number, rng.randrange(1 << 60))
        places.add(key_id, put[key_id])
    assert {key_id: places.get(key_id) for key_id in ids} == put == dict(places)
    assert (places.get(other) is None) == (other not in put)


def test_what_lies_across_two_is_no_key() -> None:
    places, first, second = Places(), bytes(range(16)), bytes(range(16, 32))
    place = Place(b"w" * 16, Path("w"), 0, 32)
    for key_id in (first, second):
        places.add(key_id, place)
    across = [(first + second)[at : at + 16] for at in range(1, 16)]
    assert [places.get(each) for each in across] == [None] * 15
    places.add(across[7], place)
    assert places.get(across[7]) == place and len(list(places)) == 3
