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


def speaks_to_reader(text: str) -> bool:
    """Whether a line gives orders to whoever reads it. It is weighed as what it is, a line of its own twin's, and put to no
    other; what this misses is a line like any other, and can move others no further than one (`rounds.py`)."""
    return bool(_TO_A_READER.search(text))


def without_orders(text: str) -> str:
    """What a proposal's text says of what is proposed: its sentences but those that give orders to a reader, or the whole of it
    where none does. Why: memory is asked for all that is left, and an order in it would draw the question away from its thing,
    until nobody's lines seem to be about it and every twin abstains."""
    sentences = [each.text for each in split_sentences(text)]
    told = [each for each in sentences if not speaks_to_reader(each)]
    return text if len(told) == len(sentences) else " ".join(told)
