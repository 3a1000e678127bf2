"""Who is spoken of: a question to the person becomes one about the person, and their sentence a quotation of theirs.

Belongs here: second person to third, and the first name it is done with.
Does not belong here: making questions (`questions.py`), and which rows are asked so (`synthesize.py`).
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
_FIRST_PERSON = re.compile(r"\b(?:i|me|my|mine|myself|we|us|our|ours|ourselves|let's)\b", re.IGNORECASE)
_NOT_TURNED = {"yourself", "yourselves", "y'all", "you'd"}

_SINGULAR = {
    "do": "does", "are": "is", "were": "was", "have": "has",
    "don't": "doesn't", "aren't": "isn't", "weren't": "wasn't", "haven't": "hasn't",
}  # fmt: skip
_SAME = {
    "did", "had", "can", "could", "will", "would", "shall", "should", "may", "might", "must", "ought",
    "didn't", "hadn't", "can't", "couldn't", "won't", "wouldn't", "shan't", "shouldn't", "mustn't", "cannot",
}  # fmt: skip
_CONTRACTED = {"you're": "is", "you've": "has", "you'll": "will"}
_PAST = {
    "ate", "became", "began", "bit", "blew", "bought", "broke", "brought", "built", "came", "caught", "chose", "cut",
    "did", "drank", "drew", "drove", "fed", "fell", "felt", "forgot", "found", "gave", "got", "grew", "had", "heard",
    "held", "hid", "kept", "knew", "learnt", "led", "left", "lent", "let", "lost", "made", "meant", "met", "paid",
    "put", "ran", "rang", "read", "rode", "said", "sang", "sat", "saw", "sold", "sent", "set", "shook", "slept",
    "spent", "spoke", "stole", "stood", "swam", "taught", "thought", "threw", "told", "took", "tore", "understood",
    "was", "went", "wore", "won", "wrote",
}  # fmt: skip
_PRESENT = {
    "agree", "argue", "ask", "bake", "believe", "bring", "buy", "call", "care", "carry", "charge", "choose", "collect",
    "come", "cook", "cycle", "decide", "dislike", "drink", "drive", "eat", "enjoy", "expect", "fear", "feel", "find",
    "fix", "get", "give", "go", "grow", "hate", "help", "hold", "hope", "keep", "know", "learn", "like", "live", "look",
    "lose", "love", "make", "mean", "meet", "mend", "mind", "miss", "need", "open", "own", "pay", "play", "prefer",
    "print", "propose", "read", "remember", "repair", "ride", "run", "say", "see", "sell", "send", "serve", "sing",
    "sit", "sleep", "speak", "spend", "stand", "start", "stay", "support", "swim", "take", "talk", "teach", "tell",
    "think", "travel", "trust", "try", "use", "visit", "vote", "wait", "walk", "want", "watch", "wear", "wish", "work",
    "worry", "write",
}  # fmt: skip
_CAUSES = {"make", "makes", "made", "let", "lets", "help", "helps", "helped", "see", "saw", "hear", "heard", "watch", "watched"}
_OPENS_A_CLAUSE = {
    "that", "when", "while", "if", "because", "before", "after", "as", "until", "since", "where", "what", "who", "whom",
    "which", "why", "how", "whether", "though", "although", "once", "than",
}  # fmt: skip
_FOLLOWS_A_VERB = {"a", "an", "the", "to", "in", "on", "at", "for", "with", "about", "by", "from", "of", "as", "some", "any"}


def first_name(name: str) -> str:
    """How others call somebody: the first word of the name that is no title. Empty where there is none."""
    words = [word for word in name.split() if word.rstrip(".").lower() not in {"mr", "mrs", "ms", "miss", "dr", "sir", "prof"}]
    return words[0] if words else ""


def in_third_person(question: str, name: str) -> str | None:
    """The question as somebody else asks it about the person: "your" becomes "Nora's", "do you" becomes "does Nora".

    The first mention is the name; later ones are "they", with the verbs that stand with "you" already. None where it cannot be
    done cleanly: nobody is spoken to, the asker speaks of themselves, the name is there already, or a verb's form is not known.
    """
    if not name or _FIRST_PERSON.search(question) or re.search(rf"\b{re.escape(name)}\b", question):
        return None
    words = list(_WORD.finditer(question))
    lower = [match[0].lower().replace("’", "'") for match in words]
    changed: dict[int, str] = {}
    named = False
    for i, word in enumerate(lower):
        if word in _NOT_TURNED or (
            word == "you" and lower[max(0, i - 2) : i] in (["both", "of"], ["two", "of"], ["all", "of"])
        ):
            return None
        if word in ("your", "yours"):
            changed[i] = f"{name}'s" if not named else "their" if word == "your" else "theirs"
        elif word == "you" or word in _CONTRACTED:
            turned = _turn(lower, i, name) if not named else _again(lower, i)
            if turned is None:
                return None
            changed |= turned
        else:
            continue
        named = True
    return _written(question, words, changed) if named else None


def _turn(lower: list[str], i: int, name: str) -> dict[int, str] | None:
    """The name in place of the first "you", and the verb that agrees with it."""
    if lower[i] in _CONTRACTED:
        return {i: f"{name} {_CONTRACTED[lower[i]]}"}
    before, after = lower[i - 1] if i else "", lower[i + 1] if i + 1 < len(lower) else ""
    if "and" in (before, after) or before in _CAUSES:
        return {i: name}  # two people keep the plural ("do Imogen and Nora"), and "make Nora do" has no ending
    if before == "not" and i > 1 and lower[i - 2] in _SINGULAR:
        return {i: name, i - 2: _SINGULAR[lower[i - 2]]}
    if before in _SINGULAR:
        return {i: name, i - 1: _SINGULAR[before]}
    if before in _SAME:
        return {i: name}
    return _as_subject(lower, i, name, before, after)


def _as_subject(lower: list[str], i: int, name: str, before: str, after: str) -> dict[int, str] | None:
    """Inside a clause ("while you were out") the verb follows; elsewhere the person is whom something is done to."""
    if after in _SINGULAR:
        return {i: name, i + 1: _SINGULAR[after]}
    if after in _SAME:
        return {i: name}
    if not after or after in _FOLLOWS_A_VERB:
        return {i: name}
    is_past = after in _PAST or (after.endswith("ed") and after not in _PRESENT)
    if before in _OPENS_A_CLAUSE:
        if is_past:
            return {i: name}
        return {i: name, i + 1: _third_singular(after)} if after in _PRESENT else None
    if is_past or after in _PRESENT:
        return None if not before or after in _PRESENT else {i: name}
    return {i: name}


def _again(lower: list[str], i: int) -> dict[int, str] | None:
    """ "They" or "them" for whom was named: the verbs beside "you" are right for "they" as they are."""
    if lower[i] in _CONTRACTED:
        return {i: "they" + lower[i][3:]}
    before, after = lower[i - 1], lower[i + 1] if i + 1 < len(lower) else ""
    if before in _CAUSES:
        return {i: "them"}
    verbs = _SINGULAR.keys() | _SAME
    is_subject = before in verbs or after in verbs | _PAST | _PRESENT or after.endswith("ed") or before in _OPENS_A_CLAUSE
    return {i: "they" if is_subject and (after or before in verbs) else "them"}


def _third_singular(verb: str) -> str:
    if verb.endswith(("s", "sh", "ch", "x", "o")):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if verb.endswith("y") and verb[-2] not in "aeiou" else f"{verb}s"


def _written(question: str, words: list[re.Match[str]], changed: dict[int, str]) -> str:
    pieces: list[str] = []
    done = 0
    for i, match in enumerate(words):
        if i in changed:
            new = changed[i]
            pieces += [question[done : match.start()], new[0].upper() + new[1:] if match[0][0].isupper() else new]
            done = match.end()
    return "".join([*pieces, question[done:]])
