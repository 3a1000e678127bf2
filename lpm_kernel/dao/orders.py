"""Words that are meant for whoever reads them, and say nothing of anything else: orders to a twin or to its model.

Belongs here: telling such words, in a line and in the text of a proposal.
Does not belong here: what becomes of a line that is one (`planner/statements.py`), and what a text asks (`stance_cues.py`).
"""

from __future__ import annotations

import re

from lpm_kernel.L0.sentences import split_sentences

_TO_A_READER = re.compile(
    r"\b(?:ignore|disregard|forget|override|overrules?|overrides?)\b.{0,40}\b(?:instructions?|prompts?|above|previous|prior|evidence"
    r"|everything (?:else|above|before|said)|all (?:else|others?|rules|notes|lines|that)"
    r"|(?:the|these|those|other|your|their) (?:rules|notes|lines))\b"
    r"|\b(?:system|developer) ?(?:prompt|message)\b"
    r"|^\s*\W*(?:system|assistant|user|developer|instruction)s?\s*[:>]"
    r"|<\|.{0,30}\|>|\[/?INST\]|</?s>|###\s*(?:instruction|system|response)"
    r"|\b(?:you|all twins|every twin|the twins?|any (?:ai|model|assistant|twin|agent)|ai (?:agents?|models?|assistants?))"
    r"\s+(?:must|shall|have to|are to|should|will now|are now|are required to)\b"
    r"|\b(?:you are|act as|as) an? (?:ai|assistant|language model|digital twin)\b"
    r"|^\s*\W*(?:please\s+)?(?:vote|answer|say|reply|respond|output|print|write)\s+(?:only\s+)?[\"'“‘]?(?:for|against|yes|no|abstain)\b"
    r"|\b(?:answer|reply|respond|output) (?:only )?with\b",
    re.IGNORECASE | re.MULTILINE,
)


_OPTION = r"[\"'“‘]?(?:for|against|yes|no|abstain)\b"
_TO_WHO_WEIGHS = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instructions?|prompts?|(?:your|their) (?:notes|lines|memor(?:y|ies))"
    r"|everything (?:else|above|before|said))\b"
    r"|\b(?:system|developer) ?(?:prompt|message)\b"
    r"|^\s*\W*(?:system|assistant|developer)\s*[:>]"
    r"|<\|.{0,30}\|>|\[/?INST\]|</?s>|###\s*(?:instruction|system|response)"
    r"|\b(?:you|all twins|every twin|the twins?|any (?:ai|model|assistant|twin|agent)|ai (?:agents?|models?|assistants?))"
    rf"\s+(?:must|shall|have to|are to|should|will now)\s+(?:vote|choose|answer|decide|reply|respond)\b.{{0,20}}{_OPTION}"
    r"|\b(?:you are|act as) an? (?:ai|assistant|language model|digital twin)\b"
    rf"|^\s*\W*(?:please\s+)?(?:vote|answer|reply|respond)\s+(?:only\s+)?{_OPTION}[\"'”’]?\s*(?:[.!,;]|$|this\b|it\b)"
    rf"|\b(?:answer|reply|respond|output) (?:only with\b|with {_OPTION})",
    re.IGNORECASE | re.MULTILINE,
)
"""Narrower than for a line of memory: "you must book the sauna" is what is proposed, and "you must vote for" is not."""


def speaks_to_reader(text: str) -> bool:
    """Whether a line gives orders to whoever reads it. It is weighed as what it is, a line of its own twin's, and put to no
    other; what this misses is a line like any other, and can move others no further than one (`rounds.py`)."""
    return bool(_TO_A_READER.search(text))


def without_orders(text: str) -> str:
    """What a proposal's text says of what is proposed: all of it but the sentences, and the headings and lines of code, that
    tell whoever weighs it how to. Why: memory is asked for all that is left, and an order in it would draw the question away
    from its thing, until nobody's lines seem to be about it and every twin abstains. No twin casts by a text of which anything
    was left out (`twin_ballots.py`)."""
    orders = [(each.start, each.end) for each in split_sentences(text) if _TO_WHO_WEIGHS.search(each.text)]
    left = text
    for start, end in reversed(orders):
        left = left[:start] + left[end:]
    told = [line for line in left.split("\n") if not _TO_WHO_WEIGHS.search(line)]
    rest = "\n".join(told)
    return text if rest == text else rest.strip()
