"""The demo people: as many documents, questions and labels as promised, and every golden fact where it is said to stand."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.labelled import held_out
from lpm_kernel.L0.read import mime_of, read_text
from lpm_kernel.L2.golden import holds_fact, parse_golden
from lpm_kernel.records import check_user_id
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.ner import TYPES

DATA = Path(__file__).parent.parent / "data"
PEOPLE = ("1", "2")
PROPOSALS = {"P-07", "P-09", "P-11", "P-12", "P-14", "P-15", "P-16", "P-18"}


@lru_cache
def texts_of(user_id: str) -> dict[str, str]:
    files = sorted((DATA / "users" / user_id).iterdir())
    return {path.name: read_text(path.read_bytes(), mime_of(path.name)) for path in files}


@lru_cache
def golden_of(user_id: str) -> dict[str, Any]:
    return yaml.safe_load((DATA / "golden" / f"{user_id}.yaml").read_bytes())


def plain(text: str) -> str:
    return " ".join(text.split())


def stands_in(user_id: str, document: str, evidence: str) -> bool:
    return plain(evidence) in plain(texts_of(user_id)[document])


def test_the_first_person_has_enough_to_remember() -> None:
    texts = texts_of("1")
    assert len(texts) >= 12
    assert sum(len(text.split()) for text in texts.values()) >= 8000
    types = Counter(Path(name).suffix for name in texts)
    assert types[".md"] >= 1
    assert types[".txt"] >= 1
    assert types[".pdf"] == 1


@pytest.mark.parametrize("user_id", PEOPLE)
def test_every_document_is_within_the_limits(user_id: str) -> None:
    limits = load_settings().limits
    assert len(texts_of(user_id)) <= limits.documents_per_user
    assert len(set(texts_of(user_id).values())) == len(texts_of(user_id))
    for path in (DATA / "users" / user_id).iterdir():
        assert path.stat().st_size <= limits.document_size_mb * 1_000_000


@pytest.mark.parametrize("user_id", PEOPLE)
def test_the_golden_set_is_as_large_as_promised(user_id: str) -> None:
    golden = golden_of(user_id)
    least = {"questions": 40, "preferences": 20, "unanswerable": 10, "entities": 150}
    assert {name: len(golden[name]) >= count for name, count in least.items()} == dict.fromkeys(least, True)
    parsed = parse_golden((DATA / "golden" / f"{user_id}.yaml").read_bytes())
    assert len(parsed.questions) == len(golden["questions"])


@pytest.mark.parametrize("user_id", PEOPLE)
def test_ids_and_questions_are_unique(user_id: str) -> None:
    golden = golden_of(user_id)
    items = [*golden["questions"], *golden["preferences"], *golden["unanswerable"]]
    assert [name for name, times in Counter(item["id"] for item in items).items() if times > 1] == []
    asked = Counter(plain(item["question"]).casefold() for item in [*golden["questions"], *golden["unanswerable"]])
    assert [question for question, times in asked.items() if times > 1] == []


@pytest.mark.parametrize("user_id", PEOPLE)
@pytest.mark.parametrize("section", ["questions", "preferences", "opinions"])
def test_evidence_stands_in_the_document_it_names(user_id: str, section: str) -> None:
    lost = [item for item in golden_of(user_id)[section] if not stands_in(user_id, item["document"], item["evidence"])]
    assert lost == []


@pytest.mark.parametrize("user_id", PEOPLE)
def test_every_expected_answer_stands_in_the_evidence(user_id: str) -> None:
    questions = golden_of(user_id)["questions"]
    assert [item["id"] for item in questions if not holds_fact(item["evidence"], item["expected"])] == []
    assert all(1 <= len(item["expected"]) <= 4 for item in questions)
    given_away = [item["id"] for item in questions if holds_fact(item["question"], item["expected"])]
    assert given_away == []


@pytest.mark.parametrize("user_id", PEOPLE)
def test_each_proposal_has_one_opinion(user_id: str) -> None:
    opinions = golden_of(user_id)["opinions"]
    assert sorted(item["proposal"] for item in opinions) == sorted(PROPOSALS)
    assert {item["stance"] for item in opinions} <= {"for", "against", "abstain"}


def test_the_two_people_disagree() -> None:
    one, two = ({item["proposal"]: item["stance"] for item in golden_of(user_id)["opinions"]} for user_id in PEOPLE)
    assert sum(one[proposal] != two[proposal] for proposal in PROPOSALS) >= 5


@pytest.mark.parametrize("user_id", PEOPLE)
def test_labelled_sentences_stand_in_their_documents(user_id: str) -> None:
    entities = golden_of(user_id)["entities"]
    assert [item["sentence"] for item in entities if not stands_in(user_id, item["document"], item["sentence"])] == []
    assert len({item["document"] for item in entities}) >= {"1": 8, "2": 5}[user_id]
    without = sum(not item.get("mentions") for item in entities) / len(entities)
    assert 0.08 <= without <= 0.3


@pytest.mark.parametrize("user_id", PEOPLE)
def test_every_mention_is_exact_and_of_a_known_type(user_id: str) -> None:
    wrong = []
    for item in golden_of(user_id)["entities"]:
        for mention in item.get("mentions") or ():
            exact = item["sentence"][mention["start"] : mention["end"]] == mention["text"] != ""
            trimmed = mention["text"] == mention["text"].strip()
            if not (exact and trimmed and mention["type"] in TYPES):
                wrong.append((item["sentence"], mention))
    assert wrong == []


@pytest.mark.parametrize("user_id", PEOPLE)
def test_mentions_of_one_sentence_do_not_overlap(user_id: str) -> None:
    overlapping = []
    for item in golden_of(user_id)["entities"]:
        spans = sorted((mention["start"], mention["end"]) for mention in item.get("mentions") or ())
        if any(end > start for (_, end), (start, _) in pairwise(spans)):
            overlapping.append(item["sentence"])
    assert overlapping == []


def test_the_held_out_sentences_are_of_other_people_and_sound() -> None:
    sentences = held_out()
    assert len(sentences) >= 60
    assert len({sentence.person for sentence in sentences}) == 3
    for sentence in sentences:
        assert not set("[]|") & set(sentence.text)
        assert {kind for _, _, kind in sentence.labels} <= TYPES
        assert all(sentence.text[start:end] == sentence.text[start:end].strip() != "" for start, end, _ in sentence.labels)
    assert {kind for sentence in sentences for _, _, kind in sentence.labels} == TYPES
    people = {s.text[start:end] for s in sentences for start, end, kind in s.labels if kind == "PERSON"}
    known = {
        m["text"] for u in PEOPLE for i in golden_of(u)["entities"] for m in i.get("mentions") or () if m["type"] == "PERSON"
    }
    assert people & known == set()


def test_every_person_names_files_and_questions_that_are_there() -> None:
    people = yaml.safe_load((DATA / "users" / "people.yaml").read_text())
    assert sorted(people) == list(PEOPLE)
    for user_id, person in people.items():
        assert check_user_id(user_id) == user_id
        assert person["name"]
        assert sorted(path.name for path in (DATA / person["documents"]).iterdir()) == sorted(texts_of(user_id))
        golden = parse_golden((DATA / person["golden"]).read_bytes())
        assert person["questions"]
        assert set(person["questions"]) <= {question.question_id for question in golden.questions}


@pytest.mark.parametrize("user_id", PEOPLE)
def test_the_data_speaks_of_its_world_alone(user_id: str) -> None:
    for name, text in texts_of(user_id).items():
        assert not re.search(r"lorem ipsum|TODO|FIXME|example\.com|language model", text, re.IGNORECASE), name
