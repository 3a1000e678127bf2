"""Preferences and voice of both demo people: golden evidence found, beside word filters, and whose text a text is.

`python -m bench.preferences --list` needs no engines and prints each preference too, to be judged by eye.
"""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import UTC, datetime
from itertools import combinations

import yaml

from bench.people import DATA
from lpm_kernel.english import open_english
from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.preference_grammar import find_preference
from lpm_kernel.L0.preferences import extract_preferences
from lpm_kernel.L0.read import mime_of, read_text
from lpm_kernel.L0.sentences import split_sentences
from lpm_kernel.L0.voice import measure_voice, voice_distance
from lpm_kernel.records import Chunk, Document, sha256_hex
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import Stores

FIRST_PERSON = re.compile(r"\b(?:I|my|me)\b")
VERBS = re.compile(r"\bI (?:do not |would |would rather )?(?:prefer|like|love|hate|dislike|want|never|always)\b")


def run(stores: Stores) -> None:
    report(everything=False)


def report(*, everything: bool) -> None:
    """Found means: the golden evidence stands in an extracted sentence of the same document. The rules were written with these
    people in sight, so the share is no estimate for a new person."""
    open_english()
    print("  golden evidence that stands in a sentence found, of all the sentences found; seconds without loading the model")
    print(f"  {'':3} {'way':36} {'preferences':>13} {'opinions':>10} {'sentences':>10} {'of all':>7} {'s':>6}")
    for user_id in ("1", "2"):
        documents, chunks, texts = read_person(user_id)
        golden = yaml.safe_load((DATA / "golden" / f"{user_id}.yaml").read_bytes())
        sentences = [(d.filename, s.text) for d in documents for s in split_sentences(texts[d.sha256].decode())]
        began = time.perf_counter()
        preferences = extract_preferences(documents, chunks, texts)
        seconds = time.perf_counter() - began
        ways = {
            "every sentence with I, my or me": [(name, text) for name, text in sentences if FIRST_PERSON.search(text)],
            "I + like, want, never, ... by words": [(name, text) for name, text in sentences if VERBS.search(text)],
            "grammar (ours)": [(item.citation.filename, item.text) for item in preferences],
        }
        for way, found in ways.items():
            held = {kind: [_found(item, found) for item in golden[kind]] for kind in ("preferences", "opinions")}
            shares = [f"{sum(hits)}/{len(hits)}" for hits in held.values()]
            took = f"{seconds:6.2f}" if "ours" in way else f"{'':6}"
            counts = f"{shares[0]:>13} {shares[1]:>10} {len(found):>10} {len(found) / len(sentences):7.0%}"
            print(f"  {user_id:3} {way:36} {counts} {took}")
        if everything:
            for item in preferences:
                print(f"    {item.strength:4.2f} {item.kind:8} {item.polarity:9} [{item.domain}]  {item.text}")
            for kind in ("preferences", "opinions"):
                for item in golden[kind]:
                    if not _found(item, ways["grammar (ours)"]):
                        print(f"    missed   {item['evidence']}")

    _strangers()
    people = {
        user_id: [texts[d.sha256].decode() for d in documents]
        for user_id in ("1", "2")
        for documents, _, texts in [read_person(user_id)]
    }
    print("\n  distance of voices between halves, every other document")
    halves = {
        f"{user} {name}": measure_voice(own[i::2]) for user, own in people.items() for i, name in enumerate(("odd", "even"))
    }
    for a, b in combinations(halves, 2):
        print(f"  {a:7} {b:7} {voice_distance(halves[a].features, halves[b].features):6.3f}")
    ways = {
        "letters a word alone": ["letters_a_word_mean"],
        "words a sentence alone": ["words_a_sentence_mean"],
        "all (ours)": None,
    }
    print("\n  documents nearest to their own writer's other documents")
    for way, names in ways.items():
        right = [_nearest(people, user, i, names) == user for user, own in people.items() for i in range(len(own))]
        print(f"  {way:24} {sum(right)}/{len(right)}")


def _strangers() -> None:
    """Sentences in which people the rules were not written for say what they prefer: PrefEval, the half of its topics whose
    sentences nobody looked at while the rules grew; beside the half that was looked at."""
    folder = DATA.parent.parent / "shared" / "data" / "prefeval" / "explicit_preference"
    files = sorted(folder.glob("*.json"))
    if not files:
        print("\n  explicit preferences of strangers: skipped, ../shared/data/prefeval is not here")
        return
    print("\n  explicit preferences of strangers (PrefEval): a preference found in the sentence")
    half = len(files) // 2
    for name, part in (("topics looked at", files[:half]), ("topics not looked at", files[half:])):
        told = [item["preference"] for file in part for item in json.loads(file.read_text(encoding="utf-8"))]
        ours = sum(any(find_preference(open_english()(s.text), s.is_quoted) for s in split_sentences(text)) for text in told)
        words = sum(bool(VERBS.search(text)) for text in told)
        shares = [
            f"{way} {found}/{len(told)} {found / len(told):4.0%}"
            for way, found in (("by words", words), ("grammar (ours)", ours))
        ]
        print(f"  {name:24} {'   '.join(shares)}")


def _nearest(people: dict[str, list[str]], user: str, position: int, names: list[str] | None) -> str:
    def features(texts: list[str]) -> dict[str, float]:
        return {name: value for name, value in measure_voice(texts).features.items() if names is None or name in names}

    text = people[user][position]
    near = {who: voice_distance(features([text]), features([t for t in own if t != text])) for who, own in people.items()}
    return min(near, key=lambda who: near[who])


def _found(golden: dict, found: list[tuple[str, str]]) -> bool:
    return any(name == golden["document"] and _plain(golden["evidence"]) in _plain(text) for name, text in found)


def _plain(text: str) -> str:
    return " ".join(text.split())


def read_person(user_id: str) -> tuple[list[Document], list[Chunk], dict[str, bytes]]:
    """Documents, chunks and stored texts of a demo person, straight from the folder."""
    settings = load_settings()
    documents: list[Document] = []
    chunks: list[Chunk] = []
    texts: dict[str, bytes] = {}
    for path in sorted((DATA / "users" / user_id).iterdir()):
        data, mime = path.read_bytes(), mime_of(path.name)
        text = read_text(data, mime)
        document = Document(
            user_id=user_id,
            sha256=sha256_hex(data),
            filename=path.name,
            mime=mime,
            size_bytes=len(data),
            source="upload",
            created_by="user",
            created_at=datetime.fromtimestamp(0, UTC),
            status="read",
            text_size_bytes=len(text.encode()),
        )
        documents.append(document)
        chunks.extend(chunk_document(document, text, settings.chunking))
        texts[document.sha256] = text.encode()
    return documents, chunks, texts


if __name__ == "__main__":
    report(everything="--list" in sys.argv[1:])
