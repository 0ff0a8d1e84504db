from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadglass.archive import paging
from leadglass.archive.index import Index, Visibility
from leadglass.archive.matching import LIST_VALUES_MAX, keys_to_match
from leadglass.archive.query import Rows
from leadglass.terms import Level, Malformed, Mismatched, PatientIdentity, Root, Settled, Standing
from leadglass.wire import tags
from tests.archive.kept import MR, instance, opened, query, retrieval, settled
from tests.archive.place import ANNA, CT

ALL, CT_ONLY = Visibility(), Visibility(frozenset({CT}))
BERTA, NOBODY = PatientIdentity("p1", "OTHER"), PatientIdentity("")
UID, SERIES, SOP = tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.SOP_INSTANCE_UID


def kept() -> Iterator[Settled]:
    """Three patients; study 1.1 of CT and MR, 1.2 of two series of MR, 1.3 of CT, 1.4 of nobody; one held and one superseded version besides."""
    anna = {
        tags.PATIENT_NAME: "Smith^Anna",
        tags.STUDY_DATE: "20240105",
        tags.STUDY_TIME: "101500",
        tags.ACCESSION_NUMBER: "A1",
    }
    berta = {
        tags.PATIENT_NAME: "Yamada^Tarou=山田^太郎=Yamada^T",
        tags.STUDY_DATE: "20240220",
        tags.ACCESSION_NUMBER: "A%2",
    }
    for number in (3, 1, 2):
        own = {**anna, tags.INSTANCE_NUMBER: str(number), tags.SERIES_NUMBER: "1", tags.ROWS: "512"}
        yield settled(instance(f"1.1.1.{number}", study="1.1", patient=ANNA, attributes=own))
    mr = {**anna, tags.MODALITY: "MR", tags.SERIES_NUMBER: "2", tags.STUDY_DESCRIPTION: "not the earliest"}
    yield settled(
        instance("1.1.2.1", study="1.1", series="1.1.2", patient=ANNA, sop_class=MR, attributes=mr), received=9
    )
    second = {**mr, tags.STUDY_DATE: "20240301", tags.ACCESSION_NUMBER: "", tags.STUDY_DESCRIPTION: "Head"}
    yield settled(instance("1.2.1.1", study="1.2", patient=ANNA, sop_class=MR, attributes=second), received=20)
    third = instance("1.2.2.1", study="1.2", series="1.2.2", patient=ANNA, sop_class=MR, attributes=second)
    yield settled(third, received=21)
    yield settled(instance("1.3.1.1", study="1.3", patient=BERTA, attributes=berta), received=30)
    yield settled(instance("1.4.1.1", study="1.4", patient=NOBODY), received=40)
    yield settled(instance("1.5.1.1", study="1.5", patient=ANNA, attributes=anna), standing=Standing.HELD)
    yield settled(
        instance("1.1.1.1", study="1.1", patient=ANNA, attributes=anna), version=2, standing=Standing.SUPERSEDED
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    index = opened(tmp_path_factory.mktemp("query"))
    index.publish(list(kept()))
    yield index
    index.close()


@pytest.fixture(params=[500, 1], ids=["pages", "pages of one"])
def pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE_ROWS", request.param)
    monkeypatch.setattr(paging, "IN_LIST_MAX", request.param)


def studies(index: Index, visible: Visibility = ALL, **keys: str) -> list[str]:
    asked = {UID: "", **{getattr(tags, name): value for name, value in keys.items()}}
    return sorted(row[UID] for row in index.find(query(Level.STUDY, asked), visible))


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["1.1", "1.2", "1.3", "1.4"]),
        ({"STUDY_INSTANCE_UID": "1.3\\1.1\\1.3\\9"}, ["1.1", "1.3"]),
        ({"PATIENT_ID": "P1"}, ["1.1", "1.2", "1.3"]),
        ({"PATIENT_ID": "P1", "ISSUER_OF_PATIENT_ID": "hospital"}, ["1.1", "1.2"]),
        ({"PATIENT_ID": "P1\\P2"}, ["1.1", "1.2", "1.3"]),
        ({"PATIENT_ID": "P*"}, ["1.1", "1.2", "1.3"]),
        ({"PATIENT_ID": "*1"}, ["1.1", "1.2", "1.3"]),
        ({"PATIENT_ID": '""'}, ["1.4"]),
        ({"PATIENT_NAME": "smi*"}, ["1.1", "1.2"]),
        ({"PATIENT_NAME": "YAMADA*"}, ["1.3"]),
        ({"PATIENT_NAME": "Y*"}, ["1.3"]),
        ({"PATIENT_NAME": "山*"}, ["1.3"]),
        ({"PATIENT_NAME": "*郎"}, ["1.3"]),
        ({"PATIENT_NAME": "*t*"}, ["1.1", "1.2", "1.3"]),
        ({"PATIENT_NAME": "Smith^Anna^^"}, ["1.1", "1.2"]),
        ({"STUDY_DATE": "20240105-20240220"}, ["1.1", "1.3"]),
        ({"STUDY_DATE": "20240220-"}, ["1.2", "1.3"]),
        ({"STUDY_DATE": "-20240131"}, ["1.1"]),
        ({"STUDY_DATE": "20240220"}, ["1.3"]),
        ({"STUDY_DATE": "20240105\\20240301"}, ["1.1", "1.2"]),
        ({"STUDY_DATE": "20240105-20240301", "STUDY_TIME": "10-11"}, ["1.1", "1.2"]),
        ({"STUDY_DATE": "20240105-20240301", "PATIENT_NAME": "S*"}, ["1.1", "1.2"]),
        ({"ACCESSION_NUMBER": "a1"}, ["1.1"]),
        ({"ACCESSION_NUMBER": "A%2"}, ["1.3"]),
        ({"ACCESSION_NUMBER": "%"}, []),
        ({"ACCESSION_NUMBER": "A_"}, []),
        ({"MODALITIES_IN_STUDY": "MR"}, ["1.1", "1.2"]),
        ({"MODALITIES_IN_STUDY": "mr\\US"}, ["1.1", "1.2"]),
        ({"MODALITIES_IN_STUDY": "C*"}, ["1.1", "1.3", "1.4"]),
        ({"MODALITIES_IN_STUDY": "CT", "PATIENT_ID": "P1"}, ["1.1", "1.3"]),
        ({"SOP_CLASSES_IN_STUDY": MR}, ["1.1", "1.2"]),
        ({"NUMBER_OF_STUDY_RELATED_INSTANCES": "4"}, ["1.1"]),
        ({"STUDY_DESCRIPTION": "head"}, ["1.2"]),
        ({"STUDY_DESCRIPTION": "not the*"}, []),
        ({"MODALITY": "US", "ROWS": "1"}, ["1.1", "1.2", "1.3", "1.4"]),  # of levels below: not matched
    ],
)
def test_study_level(index: Index, keys: dict[str, str], expected: list[str]) -> None:
    assert studies(index, **keys) == expected


def test_a_key_that_is_private_or_not_indexed_is_not_matched(index: Index) -> None:
    keys = {UID: "1.1", SERIES: "", SOP: "", 0x00091001: "x", 0x00180060: "120"}
    assert len(list(index.find(query(Level.IMAGE, {**keys, SERIES: "1.1.1"}), ALL))) == 3
    (row,) = index.find(query(Level.STUDY, {UID: "1.1", 0x00091001: "x", 0x00081032: ""}), ALL)
    assert row == {UID: "1.1"}


def test_only_what_was_asked_for_comes_back(index: Index) -> None:
    keys = {UID: "1.1", tags.PATIENT_NAME: "", tags.PATIENT_BIRTH_DATE: "", tags.QUERY_RETRIEVE_LEVEL: "STUDY"}
    (row,) = index.find(query(Level.STUDY, keys), ALL)
    assert row == {UID: "1.1", tags.PATIENT_NAME: "Smith^Anna", tags.PATIENT_BIRTH_DATE: ""}


COUNTS = {
    tags.MODALITIES_IN_STUDY: "",
    tags.SOP_CLASSES_IN_STUDY: "",
    tags.NUMBER_OF_PATIENT_RELATED_STUDIES: "",
    tags.NUMBER_OF_PATIENT_RELATED_SERIES: "",
    tags.NUMBER_OF_PATIENT_RELATED_INSTANCES: "",
    tags.NUMBER_OF_STUDY_RELATED_SERIES: "",
    tags.NUMBER_OF_STUDY_RELATED_INSTANCES: "",
}


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(ALL, ["CT\\MR", f"{CT}\\{MR}", "2", "4", "6", "2", "4"]), (CT_ONLY, ["CT", CT, "1", "1", "3", "1", "3"])],
)
def test_counts_count_what_is_visible(index: Index, visible: Visibility, expected: list[str]) -> None:
    (row,) = index.find(query(Level.STUDY, {UID: "1.1", **COUNTS}), visible)
    assert [row[tag] for tag in COUNTS] == expected


@pytest.mark.usefixtures("pages")
def test_visibility_confines_every_level(index: Index) -> None:
    assert studies(index, CT_ONLY) == ["1.1", "1.3", "1.4"]
    assert studies(index, CT_ONLY, STUDY_INSTANCE_UID="1.2\\1.1") == ["1.1"]
    assert studies(index, CT_ONLY, MODALITIES_IN_STUDY="MR") == []
    assert studies(index, Visibility(frozenset())) == []
    series = index.find(query(Level.SERIES, {UID: "1.1", SERIES: ""}), CT_ONLY)
    assert [row[SERIES] for row in series] == ["1.1.1"]
    images = query(Level.IMAGE, {UID: "1.1", SERIES: "1.1.2", SOP: ""})
    assert list(index.find(images, CT_ONLY)) == [] and len(list(index.find(images, ALL))) == 1
    patients = query(Level.PATIENT, {tags.PATIENT_ID: ""}, Root.PATIENT)
    assert len(list(index.find(patients, Visibility(frozenset({MR}))))) == 1


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({tags.PATIENT_ID: ""}, ["", "P1", "p1"]),
        ({tags.PATIENT_ID: "p1"}, ["P1", "p1"]),
        ({tags.PATIENT_ID: "p?"}, ["P1", "p1"]),
        ({tags.PATIENT_ID: "", tags.PATIENT_NAME: "yamada*"}, ["p1"]),
        ({tags.PATIENT_ID: "", tags.PATIENT_NAME: "*mi*"}, ["P1"]),
        ({tags.PATIENT_ID: "", tags.ISSUER_OF_PATIENT_ID: "other"}, ["p1"]),
        ({tags.PATIENT_ID: "", tags.NUMBER_OF_PATIENT_RELATED_STUDIES: "2"}, ["P1"]),
        ({tags.PATIENT_ID: "", tags.MODALITIES_IN_STUDY: "MR"}, ["", "P1", "p1"]),
    ],
)
def test_patient_level(index: Index, keys: Mapping[int, str], expected: list[str]) -> None:
    rows = list(index.find(query(Level.PATIENT, keys, Root.PATIENT), ALL))
    assert sorted(row[tags.PATIENT_ID] for row in rows) == expected


@pytest.mark.usefixtures("pages")
def test_series_and_image_level(index: Index) -> None:
    asked = {SERIES: "", tags.SERIES_NUMBER: "", tags.NUMBER_OF_SERIES_RELATED_INSTANCES: "", tags.PATIENT_NAME: ""}
    rows = list(index.find(query(Level.SERIES, {UID: "1.1", **asked}), ALL))
    assert [tuple(row.values()) for row in rows] == [
        ("1.1", "1.1.1", "1", "3", "Smith^Anna"),
        ("1.1", "1.1.2", "2", "1", "Smith^Anna"),
    ]
    assert [
        row[SERIES] for row in index.find(query(Level.SERIES, {UID: "1.1", SERIES: "", tags.MODALITY: "MR"}), ALL)
    ] == ["1.1.2"]
    assert [row[SERIES] for row in index.find(query(Level.SERIES, {UID: "1.1", SERIES: "1.1.2\\9"}), ALL)] == ["1.1.2"]
    images = {UID: "1.1", SERIES: "1.1.1", SOP: "", tags.INSTANCE_NUMBER: "", tags.ROWS: "512"}
    rows = list(index.find(query(Level.IMAGE, images), ALL))
    assert [(row[SOP], row[tags.ROWS]) for row in rows] == [("1.1.1.1", "512"), ("1.1.1.2", "512"), ("1.1.1.3", "512")]
    assert [row[SOP] for row in index.find(query(Level.IMAGE, {**images, SOP: "1.1.1.3\\1.1.2.1"}), ALL)] == ["1.1.1.3"]
    assert list(index.find(query(Level.IMAGE, {**images, SERIES: "1.1.2"}), ALL)) == []


@pytest.mark.parametrize(
    ("root", "level", "keys"),
    [
        (Root.PATIENT, Level.STUDY, {UID: ""}),
        (Root.PATIENT, Level.STUDY, {UID: "", tags.PATIENT_ID: "P*"}),
        (Root.PATIENT, Level.SERIES, {UID: "1.1", SERIES: ""}),
        (Root.STUDY, Level.SERIES, {SERIES: ""}),
        (Root.STUDY, Level.SERIES, {UID: "*", SERIES: ""}),
        (Root.STUDY, Level.SERIES, {UID: "1.1\\1.2", SERIES: ""}),
        (Root.STUDY, Level.IMAGE, {UID: "1.1", SOP: ""}),
        (Root.STUDY, Level.IMAGE, {SERIES: "1.1.1", SOP: ""}),
    ],
)
def test_queries_are_hierarchical(index: Index, root: Root, level: Level, keys: Mapping[int, str]) -> None:
    with pytest.raises(Mismatched):
        index.find(query(level, keys, root), ALL)


def test_the_patient_root_confines_to_its_patient(index: Index) -> None:
    asked = {tags.PATIENT_ID: "P1", tags.ISSUER_OF_PATIENT_ID: "OTHER", UID: ""}
    assert [row[UID] for row in index.find(query(Level.STUDY, asked, Root.PATIENT), ALL)] == ["1.3"]
    assert list(index.find(query(Level.SERIES, {**asked, UID: "1.1", SERIES: ""}, Root.PATIENT), ALL)) == []


def test_a_long_list_of_uids(index: Index) -> None:
    wanted = [f"9.{number}" for number in range(LIST_VALUES_MAX - 1)] + ["1.3"]
    assert studies(index, STUDY_INSTANCE_UID="\\".join(wanted)) == ["1.3"]
    assert index.count(retrieval(Level.IMAGE, {SOP: "\\".join([*wanted[1:], "1.1.1.1"])}), ALL) == 1
    with pytest.raises(Malformed):
        index.count(retrieval(Level.IMAGE, {SOP: "\\".join([*wanted, "1.4", "1.5"])}), ALL)


# ---- retrievals


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize(
    ("root", "level", "keys", "expected"),
    [
        (
            Root.PATIENT,
            Level.PATIENT,
            {tags.PATIENT_ID: "P1"},
            ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.2.1", "1.2.1.1", "1.2.2.1"],
        ),
        (Root.PATIENT, Level.PATIENT, {tags.PATIENT_ID: "p1"}, ["1.3.1.1"]),
        (Root.PATIENT, Level.PATIENT, {tags.PATIENT_ID: "P1", tags.ISSUER_OF_PATIENT_ID: "X"}, []),
        (Root.STUDY, Level.STUDY, {UID: "1.3\\1.1\\1.3"}, ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.2.1", "1.3.1.1"]),
        (Root.PATIENT, Level.STUDY, {tags.PATIENT_ID: "p1", UID: "1.3"}, ["1.3.1.1"]),
        (Root.PATIENT, Level.STUDY, {tags.PATIENT_ID: "P1", UID: "1.3"}, []),
        (Root.STUDY, Level.SERIES, {UID: "1.1", SERIES: "1.1.2\\1.1.1"}, ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.2.1"]),
        (Root.STUDY, Level.SERIES, {SERIES: "1.1.2"}, ["1.1.2.1"]),
        (Root.STUDY, Level.SERIES, {UID: "1.2", SERIES: "1.1.2"}, []),
        (Root.STUDY, Level.IMAGE, {UID: "1.1", SERIES: "1.1.1", SOP: "1.1.1.3\\1.1.1.1"}, ["1.1.1.1", "1.1.1.3"]),
        (Root.STUDY, Level.IMAGE, {SOP: "1.3.1.1\\1.1.2.1\\9"}, ["1.1.2.1", "1.3.1.1"]),
        (Root.STUDY, Level.IMAGE, {UID: "1.2", SOP: "1.1.1.1"}, []),
        (Root.STUDY, Level.STUDY, {UID: "1.5"}, []),  # held
    ],
)
def test_selection(index: Index, root: Root, level: Level, keys: Mapping[int, str], expected: list[str]) -> None:
    asked = retrieval(level, keys, root)
    assert [each.instance.sop_instance_uid for each in index.select(asked, ALL)] == expected
    assert index.count(asked, ALL) == len(expected)
    assert all(each.version == 1 and each.standing is Standing.CURRENT for each in index.select(asked, ALL))
    seen = [uid for uid in expected if uid.startswith(("1.1.1", "1.3"))]
    assert [each.instance.sop_instance_uid for each in index.select(asked, CT_ONLY)] == seen
    assert index.count(asked, CT_ONLY) == len(seen)


@pytest.mark.parametrize("level", list(Level))
def test_a_retrieval_needs_its_unique_key(index: Index, level: Level) -> None:
    with pytest.raises(Mismatched):
        index.select(retrieval(level, {tags.PATIENT_NAME: "Smith"}, Root.PATIENT), ALL)


def test_too_many_values_above_are_refused_not_cut(index: Index) -> None:
    above = "\\".join(f"1.{number}" for number in range(paging.IN_LIST_MAX + 1))
    with pytest.raises(Malformed):
        index.select(retrieval(Level.SERIES, {UID: above, SERIES: "1.1.1"}), ALL)


# ---- any query finds what matching says, however it is narrowed and paged

WORDS = st.sampled_from(["", "*", "a", "B*", "?b", "*a", "ab", "a\\b", '""'])
NAMES = st.sampled_from(["", "A^B", "ab^a=b^a=a^b", "=B^A", "a", "B"])
DATES = st.sampled_from(["", "20240101", "20240102", "20240103"])
RANGES = st.sampled_from(["", "20240102", "20240101-20240102", "-20240102", "20240102-", "20240103-20240101"])
STORED = st.tuples(st.sampled_from(["", "a", "b", "AB"]), NAMES, DATES, st.sampled_from(["", "a", "ab", "%"]))
ASKED = st.tuples(WORDS, st.one_of(NAMES, WORDS), RANGES, WORDS)
COLUMNS = (tags.PATIENT_ID, tags.PATIENT_NAME, tags.STUDY_DATE, tags.ACCESSION_NUMBER)
_numbers = itertools.count()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(STORED, min_size=1, max_size=8), st.lists(ASKED, min_size=1, max_size=12), st.integers(1, 3))
def test_narrowing_and_paging_change_nothing(tmp_path: Path, stored: list[Any], asked: list[Any], page: int) -> None:
    index = opened(tmp_path / str(next(_numbers)))
    rows = {}
    for number, values in enumerate(stored):
        attributes = dict(zip(COLUMNS, values, strict=True))
        of = instance(f"1.{number}.1.1", study=f"1.{number}", patient=PatientIdentity(values[0]), attributes=attributes)
        rows[of.study_instance_uid] = of.attributes
        index.publish([settled(of, received=number)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paging, "PAGE_ROWS", page)
        for keys in (dict(zip(COLUMNS, values, strict=True)) for values in asked):
            matchers = keys_to_match(keys, COLUMNS)
            wanted = [
                study for study, row in rows.items() if all(key.matches(row.get(key.tag, "")) for key in matchers)
            ]
            found = [row[UID] for row in index.find(query(Level.STUDY, {UID: "", **keys}), ALL)]
            assert sorted(found) == sorted(wanted), keys
            assert len(index_patients(index, keys)) == len(set(index_patients(index, keys)))
    index.close()


def index_patients(index: Index, keys: Mapping[int, str]) -> list[tuple[str, str]]:
    asked = {tags.PATIENT_ID: keys[tags.PATIENT_ID], tags.PATIENT_NAME: keys[tags.PATIENT_NAME]}
    rows = index.find(query(Level.PATIENT, asked, Root.PATIENT), ALL)
    return [(row[tags.PATIENT_ID], row[tags.PATIENT_NAME]) for row in rows]


# ---- how it is read


class Reads:
    """What a query reads, and how SQLite goes about it."""

    def __init__(self, index: Index) -> None:
        self.index, self.statements, self.rows = index, [], 0  # type: ignore[var-annotated]

    def __call__(self, statement: str, values: Any) -> list[Any]:
        found = self.index._all(statement, values)
        self.statements.append((statement, values))
        self.rows += len(found)
        return found

    def plan(self) -> list[str]:
        return [
            row[3] for each, values in self.statements for row in self.index._all(f"EXPLAIN QUERY PLAN {each}", values)
        ]


@pytest.mark.parametrize(
    "keys",
    [
        {"STUDY_INSTANCE_UID": "1.1"},
        {"PATIENT_ID": "P1"},
        {"PATIENT_ID": "P1", "STUDY_DATE": "20240101-20241231", "MODALITIES_IN_STUDY": "CT"},
        {"PATIENT_ID": "P1\\P2"},
        {"ACCESSION_NUMBER": "A1"},
        {"STUDY_DATE": "20240101-20240131"},
        {"STUDY_DATE": "20240105"},
        {"STUDY_ID": "1"},
        {"PATIENT_NAME": "SMI*"},
        {"PATIENT_NAME": "Smith^Anna", "MODALITIES_IN_STUDY": "CT\\MR"},
        {"MODALITIES_IN_STUDY": "CT"},
    ],
)
@pytest.mark.parametrize("visible", [None, frozenset({CT})], ids=["all", "confined"])
def test_exact_keys_ranges_and_prefixes_walk_an_index_and_sort_nothing(
    index: Index, keys: dict[str, str], visible: frozenset[str] | None
) -> None:
    reads = Reads(index)
    asked = {UID: "", **COUNTS, **{getattr(tags, name): value for name, value in keys.items()}}
    list(Rows(reads, query(Level.STUDY, asked), Visibility(visible)).answers())
    plan = reads.plan()
    assert plan
    for step in plan:
        assert not step.startswith("SCAN") or step == "SCAN each_series", (
            plan
        )  # the sub-select that counts a patient's series
        assert "TEMP B-TREE FOR ORDER BY" not in step, plan


@pytest.mark.parametrize("keys", [{tags.PATIENT_ID: "P1"}, {tags.PATIENT_ID: "", tags.PATIENT_NAME: "SMI*"}])
def test_patients_too(index: Index, keys: Mapping[int, str]) -> None:
    reads = Reads(index)
    list(Rows(reads, query(Level.PATIENT, keys, Root.PATIENT), ALL).answers())
    assert not [step for step in reads.plan() if step.startswith("SCAN") or "TEMP B-TREE" in step]


def test_a_query_reads_a_page_at_a_time_and_may_be_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE_ROWS", 10)
    index = opened(tmp_path)
    index.publish([settled(instance(f"1.{number}.1.1", study=f"1.{number}"), received=number) for number in range(100)])
    reads = Reads(index)
    answers = Rows(reads, query(Level.STUDY, {UID: ""}), ALL).answers()
    assert reads.rows == 0
    for _ in range(11):
        next(answers)
    assert reads.rows == 20
    index.publish([settled(instance("2.1.1.1", study="2.1"), received=500)])  # nobody is in its way
    assert "2.1" in [row[UID] for row in answers], "each page sees what is there when it is read"
    answers.close()  # type: ignore[attr-defined]
    index.close()
