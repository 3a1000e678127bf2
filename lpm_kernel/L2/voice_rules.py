"""A measured voice as rules in a prompt, for a foreign model that never learnt it and is able to follow rules.

Belongs here: which features make a rule, and its words.
Does not belong here: measuring (`L0/voice.py`), a description for people (`L1/voice_words.py`), the prompt (`prompt.py`).

The adapter has the voice in its weights, and was trained on the prompt without rules: it is never shown any. Neither is the
small base, which they lead away from the person: of 49 answers to a demo person's golden questions 16 came nearer to their
manner by them, [0.21, 0.47] of 95 %, and 33 did not (`python -m bench voice_rules`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lpm_kernel.artefacts import decode_record, read_artefact
from lpm_kernel.records import VoiceProfile

if TYPE_CHECKING:
    from lpm_kernel.stores.blobs import Blobs

MOST_RULES = 3
"""What stands before the notes should not outweigh them."""
STRIKING = 1.0
"""How far from the ordinary a feature must lie to be worth a rule, in the steps below."""

WORDS_A_SENTENCE = 15.0
_LENGTH_STEP = math.log(1.25)
_OF_ONESELF = ("person.first_singular", "person.first_plural")


@dataclass(frozen=True, slots=True)
class _Habit:
    """`ordinary`: per 1,000 words of plain English prose, roughly; a step is one in its square root, as counts spread."""

    ordinary: float
    more: str
    less: str | None = None


_HABITS = {
    "contraction": _Habit(8.0, "Use contractions such as don't and I'm.", "Write do not and I am, never don't or I'm."),
    "mark.exclamation": _Habit(2.0, "Use exclamation marks!", "Use no exclamation mark."),
    "mark.dash": _Habit(3.0, "Set asides off with dashes."),
    "mark.semicolon": _Habit(1.0, "Join clauses with semicolons."),
    "mark.ellipsis": _Habit(0.5, "Trail off with an ellipsis."),
    "emoji": _Habit(0.0, "Use an emoji."),
}


def voice_rules(profile: VoiceProfile | None) -> tuple[str, ...]:
    """At most MOST_RULES short rules, the most striking first; none of a voice that is not measured, or ordinary.

    The same features give the same rules. Greetings are not measured, and make none.
    """
    if profile is None or profile.features is None:
        return ()
    found = [*_of_length(profile.features), *_of_person(profile.features)]
    for name, habit in _HABITS.items():
        rate = profile.features.get(name)
        if rate is None:
            continue
        far = math.sqrt(rate) - math.sqrt(habit.ordinary)
        rule = habit.more if far > 0 else habit.less
        if rule is not None:
            found.append((abs(far), rule))
    striking = sorted((item for item in found if item[0] >= STRIKING), key=lambda item: (-item[0], item[1]))
    return tuple(rule for _, rule in striking[:MOST_RULES])


def read_voice_rules(blobs: Blobs, user_id: str) -> tuple[str, ...]:
    """Of the profile that the pipeline left; none before its first time. Raises: StoreError."""
    return voice_rules(read_artefact(blobs, user_id, "voice_profile", "json", partial(decode_record, record_type=VoiceProfile)))


def _of_length(features: Mapping[str, float]) -> list[tuple[float, str]]:
    words = features.get("words_a_sentence_mean", 0.0)
    if not words:
        return []
    far = math.log(words / WORDS_A_SENTENCE) / _LENGTH_STEP
    return [(abs(far), f"Write {'long' if far > 0 else 'short'} sentences, about {words:.0f} words each.")]


def _of_person(features: Mapping[str, float]) -> list[tuple[float, str]]:
    """Who says "we" more than "I"; the other way round is ordinary."""
    i, we = (features.get(name, 0.0) for name in _OF_ONESELF)
    return [(math.sqrt(we) - math.sqrt(i), "Say we and our rather than I and my.")] if we > i else []
