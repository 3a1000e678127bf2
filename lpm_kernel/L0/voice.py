"""How a person writes, in numbers, and how far two ways of writing lie apart.

Belongs here: features of the manner of a text, whatever it is about, and the distance between two sets of them.
Does not belong here: what the person prefers (`preferences.py`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from lpm_kernel.errors import UserInputError
from lpm_kernel.L0.sentences import split_sentences, without_code
from lpm_kernel.records import Document, Preference, VoiceProfile

MIN_WORDS = 200
"""Below this a rate of once in 200 words is chance: nothing is measured."""

MATTR_WINDOW = 100
"""Words in the moving window whose share of different words is averaged; unlike a plain share it does not fall with length."""

PER = 1000

FUNCTION_WORDS = (
    "the", "a", "an", "this", "that", "these", "those", "of", "to", "in", "on", "at", "by", "for", "from", "with",
    "without", "into", "about", "over", "under", "between", "through", "after", "before", "and", "or", "but", "nor",
    "so", "yet", "because", "since", "although", "though", "while", "if", "when", "whenever", "where", "which", "who",
    "whom", "whose", "what", "than", "as", "until", "not", "no", "never", "nobody", "nothing", "all", "any", "some",
    "each", "every", "both", "few", "many", "much", "more", "most", "other", "such", "only", "very", "too", "also",
    "just", "even", "still", "again", "then", "there", "here", "be", "is", "are", "was", "were", "been", "has",
    "have", "had", "do", "does", "did", "can", "could", "may", "might", "must", "shall", "should", "will", "would",
)  # fmt: skip
PERSONS = {
    "first_singular": {"i", "me", "my", "mine", "myself"},
    "first_plural": {"we", "us", "our", "ours", "ourselves"},
    "second": {"you", "your", "yours", "yourself", "yourselves"},
    "third": {"he", "him", "his", "himself", "she", "her", "hers", "herself", "they", "them", "their", "theirs", "themselves"},
}
MARKS = {
    "comma": ",", "full_stop": ".", "exclamation": "!", "question": "?", "semicolon": ";", "colon": ":", "bracket": "(",
    "dash": "–—", "ellipsis": "…", "quotation": "“\"«",
}  # fmt: skip

UNITS = {
    "words_a_sentence_mean": "words",
    "words_a_sentence_sd": "words",
    "letters_a_word_mean": "letters",
    "vocabulary_mattr": f"share of different words in a window of {MATTR_WINDOW}",
    "function": f"per {PER} words",
    "person": f"per {PER} words",
    "mark": f"per {PER} words",
    "emoji": f"per {PER} words",
    "contraction": f"per {PER} words",
    "format": f"per {PER} words",
}
"""By feature, or by what stands before the dot in the names of a family."""

# One step of distance, as a ratio for lengths and as a difference for the share: about what two halves of one person differ by.
_LENGTH_STEP = math.log(1.1)
_MATTR_STEP = 0.02
_NOT_COMPARED = "format."  # a letter has no headings, whoever writes it

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_PICTURE = "[\U0001f300-\U0001f3fa\U0001f400-\U0001faff\u2600-\u27bf]"
# One emoji is one, whatever its skin and however many pictures are joined in it; a flag is two letters.
_EMOJI = re.compile(
    f"{_PICTURE}[\ufe0f\U0001f3fb-\U0001f3ff]*(?:\u200d{_PICTURE}[\ufe0f\U0001f3fb-\U0001f3ff]*)*|[\U0001f1e6-\U0001f1ff]{{2}}"
)
_IN_NUMBER = re.compile(r"(?<=\d)[.,:](?=\d)")
_TYPED_SIGNS = ((re.compile(r"\.{3,}"), "…"), (re.compile(r"(?<=\s)--?(?=\s)|(?<=\w)--(?=\w)"), "–"))  # as keyboards have them
_FORMATS = {
    "heading": re.compile(r"^[ \t]*#{1,6} \S", re.MULTILINE),
    "list_item": re.compile(r"^[ \t]*(?:[-*+•]|\d+[.)])[ \t]+\S", re.MULTILINE),
    "bold": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
}


@dataclass(frozen=True, slots=True)
class Voice:
    """Features by name, and how much they were measured on."""

    features: Mapping[str, float]
    documents: int
    sentences: int
    words: int


def measure_voice(texts: Sequence[str]) -> Voice:
    """Measure one writer's texts together; titles and Markdown headings are counted as formatting and not as sentences,
    and what stands wholly in quotation marks is another's.

    Units: see UNITS. English: function words and persons are those of English.
    Raises: UserInputError `voice_too_little_text` under MIN_WORDS words.
    """
    sentences = [
        sentence.text
        for text in texts
        for sentence in split_sentences(text)
        if not (sentence.is_title or sentence.is_of_another)
    ]
    spoken = [[word.casefold().replace("’", "'") for word in _WORD.findall(sentence)] for sentence in sentences]
    lengths = [len(words) for words in spoken if words]
    words = [word for sentence in spoken for word in sentence]
    if len(words) < MIN_WORDS:
        raise UserInputError(
            "voice_too_little_text", f"{len(words)} words in {len(texts)} texts show no manner: at least {MIN_WORDS} are needed"
        )
    count, whole = Counter(words), _signs("\n".join(sentences))
    rate = PER / len(words)
    features = {
        "words_a_sentence_mean": fmean(lengths),
        "words_a_sentence_sd": pstdev(lengths),
        "letters_a_word_mean": fmean(len(word) for word in words),
        "vocabulary_mattr": _mattr(words),
        "contraction": rate * sum("'" in word and not word.endswith("'s") for word in words),
        "emoji": rate * len(_EMOJI.findall(whole)),
    }
    features |= {f"function.{word}": rate * count[word] for word in FUNCTION_WORDS}
    features |= {f"person.{name}": rate * sum(count[word] for word in own) for name, own in PERSONS.items()}
    features |= {f"mark.{name}": rate * sum(whole.count(sign) for sign in signs) for name, signs in MARKS.items()}
    features |= {
        f"format.{name}": rate * sum(len(pattern.findall(without_code(text))) for text in texts)
        for name, pattern in _FORMATS.items()
    }
    return Voice({name: round(value, 4) for name, value in features.items()}, len(texts), len(lengths), len(words))


def voice_distance(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """How far two ways of writing lie apart: 0 for equal features, the same both ways, larger for stranger.

    Source: Burrows' delta, the mean absolute difference of standardised features. Its standard deviations come from a corpus of
    many writers, which a single person does not have; here a rate is standardised by the spread that counting alone gives it
    (the square root of a count has a deviation of ½), a length by its logarithm, and the vocabulary by a fixed step. A rate
    that is zero in both says nothing and is left out, and so is formatting: it belongs to the kind of text.
    Units: standard deviations of what 1,000 words would show by chance. Short texts lie farther apart, whoever wrote them, so
    only distances between texts of like length rank.
    Raises: UserInputError `voices_not_comparable` when they hold other features.
    """
    if a.keys() != b.keys():
        raise UserInputError("voices_not_comparable", "the two voices were measured by different features: measure both again")
    steps = [step for name in sorted(a) if (step := _step(name, a[name], b[name])) is not None]
    return fmean(steps) if steps else 0.0


def build_voice_profile(
    user_id: str, documents: Sequence[Document], texts: Mapping[str, bytes], preferences: Sequence[Preference]
) -> VoiceProfile:
    """Voice and preferences of the documents that the user made. With too little text the features are absent, with the reason.

    `texts` holds the stored text of each document by its sha256.
    """
    own = [texts[document.sha256].decode() for document in documents if document.created_by == "user"]
    try:
        voice = measure_voice(own)
    except UserInputError as error:
        return VoiceProfile(user_id, {"documents": len(own)}, None, f"{error.code}: {error.message}", tuple(preferences))
    measured = {"documents": voice.documents, "sentences": voice.sentences, "words": voice.words}
    return VoiceProfile(user_id, measured, dict(voice.features), None, tuple(preferences))


def _signs(text: str) -> str:
    """The text with each punctuation mark as one sign, and none within numbers."""
    text = _IN_NUMBER.sub("", text)
    for typed, sign in _TYPED_SIGNS:
        text = typed.sub(sign, text)
    return text


def _step(name: str, a: float, b: float) -> float | None:
    if name.startswith(_NOT_COMPARED):
        return None
    if name == "vocabulary_mattr":
        return abs(a - b) / _MATTR_STEP
    if name in UNITS and UNITS[name] in ("words", "letters"):
        return abs(math.log(a + 0.1) - math.log(b + 0.1)) / _LENGTH_STEP  # 0.1: all sentences may be of one length
    return None if a == b == 0 else abs(math.sqrt(a) - math.sqrt(b)) / 0.5


def _mattr(words: Sequence[str]) -> float:
    """Moving-average type-token ratio, in one pass: a word enters the window at its head and leaves at its tail."""
    window: Counter[str] = Counter(words[:MATTR_WINDOW])
    shares = [len(window) / MATTR_WINDOW]
    for leaving, entering in zip(words, words[MATTR_WINDOW:], strict=False):
        window[leaving] -= 1
        if not window[leaving]:
            del window[leaving]
        window[entering] += 1
        shares.append(len(window) / MATTR_WINDOW)
    return fmean(shares)
