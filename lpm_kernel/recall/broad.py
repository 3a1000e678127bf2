"""Broad questions: those that no single line answers, and lines from all over a person's memory for them.

Belongs here: telling a broad question from one about something, and choosing lines of communities. Pure: opens nothing.
Does not belong here: the search for lines that hold one fact (`search.py`), and reading communities (`L2/release.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpm_kernel.L1.records import Community
from lpm_kernel.L1.topics import MISC
from lpm_kernel.records import Evidence

if TYPE_CHECKING:
    import numpy as np

MEANING_SHARE = 0.5  # of a community's rank; the rest is how much of the person it holds

_ONE = r"(?:you|yourself|me|myself|(?:your|my) life)"
_OFTEN = r"(?:usually|mostly|mainly|often|generally|typically|normally|tend to|like to|most|these days|lately)"
_DEEDS = r"(?:write|talk|think|care|know|speak|worry)(?:ing)?"
_LIKING = r"(?:interested in|into|passionate about|like|love|enjoy|care about)"
_LIKES = r"(?:interests|hobbies|passions|themes|topics|subjects|concerns|pastimes|values|priorities)"
_NOTES = r"(?:notes|documents|diar(?:y|ies)|writings?|files|memor(?:y|ies)|texts)"
_WHOLE = rf"(?:your|my|the|these|all of your|all of my) (?:life|{_NOTES})"
_MAIN = r"(?:main|biggest|chief|recurring|most common|greatest)"
_BROAD = tuple(
    re.compile(pattern)
    for pattern in (
        rf"^(?:can you |could you |what can you )?tell (?:me|us) (?:\w+ ){{0,3}}about {_ONE}$",
        rf"^(?:can you |could you )?(?:describe|introduce) {_ONE}(?: briefly| in .*words)?$",
        rf"^what do you know about {_ONE}$",
        r"^(?:who|what) (?:are you|am i)(?: really| like| all about| as a person)*$",
        r"^what (?:kind|sort|type) of (?:person|man|woman) (?:are you|am i)$",
        rf"^what (?:do|are|have|did) (?:you|i) (?:{_OFTEN} )*{_DEEDS} (?:{_OFTEN} )*about(?: {_OFTEN})*$",
        rf"^what (?:do|are) (?:you|i) (?:{_OFTEN} )*{_LIKING}(?: {_OFTEN}| doing)*$",
        rf"^(?:what|which|list|name|describe|tell me)\b.* (?:your|my)(?: {_MAIN}| own| other| general)* {_LIKES}$",
        rf"\b{_MAIN} {_LIKES}(?: (?:of|in) {_WHOLE})?$",
        rf"\b(?:summari[sz]e|sum up|overview of|summary of|gist of) {_WHOLE}$",
        r"^what (?:matters|is important|is most important)(?: the)?(?: most)? to (?:you|me)(?: most)?$",
        rf"^what (?:is|are) {_WHOLE} (?:{_OFTEN} )*about$",
        r"^what have (?:you|i) been (?:up to|doing|working on|thinking about|writing about)(?: lately| recently| these days)?$",
    )
)


def is_broad(question: str) -> bool:
    """Whether it asks for the person as a whole, and not for something that is named in it.

    Why it must end there: "What do you write about?" is broad, "What do you write about clocks?" is not.
    """
    words = re.sub(r"[^\w' ]+", " ", question.lower().replace("’", "'"))
    plain = re.sub(r"\b(?:please|though|then|exactly|actually)\b", " ", words)
    return any(pattern.search(" ".join(plain.split())) for pattern in _BROAD)


def broad_lines(
    question_vector: np.ndarray, communities: Sequence[Community], community_vectors: np.ndarray, k: int
) -> list[Evidence]:
    """At most `k` lines from the best communities: the first of each in turn, then the second of each.

    Shapes: question_vector (dim,), community_vectors (len(communities), dim), of length 1, by the same embedding model.
    A community's rank, 0 to 1, is half its nearness to the question, half its size times its salience, each against the best.
    Deterministic; `misc` and communities without a line give none.
    """
    import numpy as np

    told = [i for i, community in enumerate(communities) if community.lines and community.label != MISC]
    if not told:
        return []
    nearness = _spread(np.array([float(community_vectors[i] @ question_vector) for i in told]))
    weight = np.array([len(communities[i].chunk_ids) * communities[i].salience for i in told])
    scores = MEANING_SHARE * nearness + (1 - MEANING_SHARE) * weight / max(float(weight.max()), 1e-9)
    order = sorted(range(len(told)), key=lambda place: (-round(float(scores[place]), 6), communities[told[place]].community_id))
    most = max(len(communities[i].lines) for i in told)
    lines: dict[str, Evidence] = {}
    for turn in range(most):
        for place in order:
            of = communities[told[place]].lines
            if turn < len(of):
                line = of[turn]
                lines.setdefault(line.text, Evidence(line.citation, line.text, round(float(scores[place]), 6)))
    return list(lines.values())[:k]


def community_vectors(communities: Sequence[Community]) -> np.ndarray:
    """Their centres. Shapes: float32 (len(communities), dim)."""
    import numpy as np

    return np.array([community.centroid for community in communities], dtype=np.float32)


def _spread(values: np.ndarray) -> np.ndarray:
    """From 0 for the least to 1 for the greatest; all 1 where they are equal."""
    import numpy as np

    width = float(values.max() - values.min())
    return (values - values.min()) / width if width > 1e-9 else np.ones_like(values)
