"""Broad questions: told from those about something, and answered by cited lines from all over a memory."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from lpm_kernel.L1.records import CitedLine, Community
from lpm_kernel.L1.topics import MISC
from lpm_kernel.recall.broad import broad_lines, community_vectors, is_broad
from tests.rules.sources import ROOT
from tests.samples import make_citation


@pytest.mark.parametrize(
    "question",
    [
        "What do I usually write about?",
        "Tell me about yourself.",
        "Tell me a bit about yourself, please!",
        "What are my main interests?",
        "what are your hobbies",
        "Who are you?",
        "What kind of person are you?",
        "Describe yourself in a few words.",
        "What matters most to you?",
        "Summarise my notes.",
        "Give me an overview of my documents",
        "What are the recurring themes in my notes?",
        "What have you been up to lately?",
        "What are you interested in?",
        "What do you think about most?",
    ],
)
def test_a_question_about_the_whole_person_is_broad(question: str) -> None:
    assert is_broad(question)


@pytest.mark.parametrize(
    "question",
    [
        "What do you write about clocks?",
        "Tell me about your cat.",
        "What does Imogen think about you?",
        "What did Priya say about me?",
        "Who shares your interests?",
        "What is your favourite hobby?",
        "What do you like about the sea?",
        "Who are you voting for?",
        "What are you paid?",
        "Where do you work?",
        "",
    ],
)
def test_a_question_about_something_is_not(question: str) -> None:
    assert not is_broad(question)


@pytest.mark.parametrize("user_id", ["1", "2"])
def test_no_golden_question_is_broad(user_id: str) -> None:
    content = yaml.safe_load((ROOT / "data" / "golden" / f"{user_id}.yaml").read_text(encoding="utf-8"))
    asked = [item["question"] for item in (*content["questions"], *content["unanswerable"])]
    assert [question for question in asked if is_broad(question)] == []


def make_community(number: int, chunks: int, lines: int = 2, salience: float = 0.5, label: str = "a") -> Community:
    told = [f"I wrote line {i} of community {number}." for i in range(lines)]
    return Community(
        community_id=f"c{number}",
        label=label,
        key_entities=(),
        chunk_ids=tuple(f"{number}-{i}" for i in range(chunks)),
        lines=tuple(CitedLine(text, make_citation(text)) for text in told),
        salience=salience,
        centroid=tuple(float(i == number) for i in range(4)),
    )


def ask(communities: list[Community], toward: int, k: int) -> list[str]:
    question = np.array([float(i == toward) for i in range(4)], dtype=np.float32)
    return [line.text for line in broad_lines(question, communities, community_vectors(communities), k)]


def test_every_good_community_has_a_line_before_any_has_two() -> None:
    communities = [make_community(0, 30), make_community(1, 10), make_community(2, 5)]
    assert ask(communities, toward=3, k=4) == [
        "I wrote line 0 of community 0.",
        "I wrote line 0 of community 1.",
        "I wrote line 0 of community 2.",
        "I wrote line 1 of community 0.",
    ]


def test_what_the_question_is_near_to_comes_before_what_is_a_little_larger() -> None:
    communities = [make_community(0, 12), make_community(1, 10)]
    assert ask(communities, toward=1, k=1) == ["I wrote line 0 of community 1."]


def test_what_counts_more_comes_first() -> None:
    communities = [make_community(0, 10, salience=0.2), make_community(1, 10, salience=0.6)]
    assert ask(communities, toward=3, k=1) == ["I wrote line 0 of community 1."]


def test_lines_are_evidence_with_their_bytes_and_a_score_from_0_to_1() -> None:
    communities = [make_community(0, 30), make_community(1, 10)]
    question = np.array([1, 0, 0, 0], dtype=np.float32)
    lines = broad_lines(question, communities, community_vectors(communities), 3)
    assert [line.citation for line in lines][:2] == [communities[0].lines[0].citation, communities[1].lines[0].citation]
    assert all(0 <= line.score <= 1 for line in lines)


def test_misc_and_what_has_no_line_give_none() -> None:
    assert ask([make_community(0, 30, label=MISC), make_community(1, 9, lines=0)], toward=0, k=5) == []
    assert ask([], toward=0, k=5) == []
    assert ask([make_community(0, 30, salience=0.0)], toward=3, k=5) != [], "old and never told again, but all there is"


def test_a_line_of_two_communities_is_told_once() -> None:
    one, two = make_community(0, 30, lines=1), make_community(1, 10, lines=1)
    two = Community(two.community_id, two.label, (), two.chunk_ids, one.lines, two.salience, two.centroid)
    assert len(ask([one, two], toward=0, k=5)) == 1
