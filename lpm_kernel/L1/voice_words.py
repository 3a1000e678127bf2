"""The measured voice of a person in words: what a prompt can say of how they write.

Belongs here: sentences made from features, the same for the same figures, each with the figure it says.
Does not belong here: measuring (`L0/voice.py`) and the prompt itself (`L2/prompt.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

SHORT_WORDS, LONG_WORDS = 12.0, 20.0
"""Words a sentence. Source: plain-language guides ask for 15 to 20 on average."""

_FEW, _MANY = 2.0, 10.0
"""Of a mark, per 1,000 words: from one in 500 words to one in 100 it is there and not striking."""

_MARKS = {
    "mark.exclamation": "exclamation marks",
    "mark.question": "questions",
    "mark.dash": "dashes",
    "mark.semicolon": "semicolons",
    "mark.bracket": "brackets",
    "emoji": "emoji",
}
_PERSONS = {
    "person.first_singular": "I, me and my",
    "person.first_plural": "we, us and our",
    "person.second": "you and your",
    "person.third": "he, she and they",
}


def describe_voice(features: Mapping[str, float]) -> str:
    """Sentences about how the person writes, in the third person. Deterministic.

    Units: as `L0/voice.py` measures them; rates are per 1,000 words.
    """
    length = features["words_a_sentence_mean"]
    size = "short" if length < SHORT_WORDS else "long" if length > LONG_WORDS else "medium"
    said = sorted(_PERSONS, key=lambda name: (-features[name], name))
    persons = f"Says {_PERSONS[said[0]]} most ({features[said[0]]:.0f} in 1,000 words)"
    if features[said[1]]:
        persons += f", then {_PERSONS[said[1]]} ({features[said[1]]:.0f})"
    amounts = {name: _amount(features[name]) for name in _MARKS}
    marks = [
        f"{amount.lower()} {', '.join(words for name, words in _MARKS.items() if amounts[name] == amount)}"
        for amount in ("Many", "Some", "Few", "No")
        if amount in amounts.values()
    ]
    contractions = f"{_amount(features['contraction'])} contractions such as don't"
    return f"Writes {size} sentences, {length:.0f} words on average. {persons}. {contractions}; {'; '.join(marks)}."


def _amount(rate: float) -> str:
    return "No" if rate == 0 else "Few" if rate < _FEW else "Some" if rate < _MANY else "Many"
