"""The words by which people say what they prefer, by class of meaning; figures are how firm a word is, 0 to 1.

Belongs here: lemmas of English. Does not belong here: how they must stand in a sentence (`preference_grammar.py`).
"""

from __future__ import annotations

LIKES = {
    "like": 0.6, "love": 1.0, "adore": 1.0, "enjoy": 0.7, "prefer": 0.8, "favour": 0.7, "favor": 0.7, "trust": 0.7,
    "admire": 0.7, "appreciate": 0.6, "value": 0.6, "cherish": 0.9, "relish": 0.8, "treasure": 0.9, "fancy": 0.5,
    "respect": 0.6,
}  # fmt: skip
DISLIKES = {
    "hate": 1.0, "loathe": 1.0, "detest": 1.0, "despise": 1.0, "dislike": 0.7, "distrust": 0.8, "mistrust": 0.8,
    "resent": 0.7, "dread": 0.7, "mind": 0.5, "avoid": 0.7, "object": 0.7,
}  # fmt: skip
BEARS = {"stand", "bear", "abide", "stomach", "tolerate", "handle"}  # only with "cannot"
WANTS = {"want": 0.7, "wish": 0.6, "insist": 0.8, "refuse": 0.9, "demand": 0.8}
CHOOSES = {"propose", "vote", "choose", "decide", "resolve", "recommend", "abstain", "support", "oppose", "back"}
PLEADS = {"speak", "argue", "campaign", "vote"}  # with "for" or "against"
FORMULAS = {
    "say",
    "add",
    "ask",
    "thank",
    "mention",
    "set",
    "see",
    "tell",
    "begin",
    "note",
    "explain",
    "point",
}  # "would like to"
PLEASES = {"suit", "please", "delight", "charm", "fascinate", "calm", "comfort", "cheer"}
PAINS = {"annoy", "bother", "bore", "irritate", "disgust", "tire", "upset", "infuriate"}
FEELS_FOR = {"fond", "keen", "partial", "happy", "glad", "willing", "interested", "passionate"}
FEELS_AGAINST = {"tired", "sick", "wary", "suspicious", "reluctant", "unwilling", "allergic"}
OWN_NOUNS = {
    "rule", "principle", "policy", "habit", "preference", "favourite", "favorite", "view", "opinion", "objection",
    "exception", "position", "condition", "taste", "priority",
}  # fmt: skip
HABITS = {"always": 0.9, "never": 0.9, "usually": 0.6, "rarely": 0.6, "seldom": 0.6, "generally": 0.6, "often": 0.4}
AGAINST_HABITS = {"never", "rarely", "seldom", "longer"}
SAYS = {
    "say", "tell", "think", "write", "ask", "claim", "believe", "argue", "reply", "answer", "insist", "suggest", "explain",
    "want", "hope", "fear", "know", "add", "shout", "announce", "wish",
}  # fmt: skip
STRONGER = {"strongly", "really", "very", "much", "far", "firmly", "absolutely", "deeply", "most", "do"}
OFTEN = {"day", "week", "weekday", "weekend", "morning", "afternoon", "evening", "night", "month", "year", "time"} | {
    f"{day}day" for day in ("mon", "tues", "wednes", "thurs", "fri", "satur", "sun")
}  # fmt: skip
# "I have an aversion to it"
HAS_FOR = {"preference", "fondness", "liking", "love", "passion", "interest", "weakness", "taste", "respect"}
HAS_AGAINST = {
    "aversion",
    "dislike",
    "distaste",
    "hatred",
    "objection",
    "distrust",
    "allergy",
    "dread",
}
GOOD = {
    "enjoyable", "useful", "helpful", "relaxing", "comfortable", "easy", "interesting", "fascinating", "effective", "pleasant",
    "rewarding", "delightful", "convenient", "good", "great", "beautiful",
}  # fmt: skip
BAD = {
    "boring", "tedious", "dull", "ineffective", "hard", "difficult", "slow", "tiresome", "annoying", "stressful", "unpleasant",
    "uncomfortable", "overwhelming", "distracting", "bad", "ugly", "loud", "useless", "wasteful", "exhausting",
}  # fmt: skip
NO_DEEDS = {
    "know", "think", "mean", "have", "be", "remember", "see", "believe", "understand", "say", "do", "need", "expect", "feel",
    "seem", "hear", "doubt", "care", "suppose", "get", "recall", "notice", "find", "want", "wish", "hope", "intend",
}  # fmt: skip
"""What one does not do is a rule only where it is a deed: "I do not eat meat", and not "I do not know"."""
