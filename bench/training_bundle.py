"""What a curve of trainings needs, in one JSON file, so that it can be drawn on a machine without engines.

`python -m bench.training_bundle OUT.json`: rows of both demo people for each number of rows, and their golden questions as
prompts, with and without the retrieved lines.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.curve_model import load_base
from bench.engines import on_engines
from bench.people import silent, take_in
from bench.training_curve import EPOCHS, RANKS, ROWS, draw_curve, grid
from bench.training_rows import make_rows
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder, open_llm
from lpm_kernel.L2.golden import holds_fact
from lpm_kernel.L2.prompt import fit_messages
from lpm_kernel.recall.confidence import LINES, FoundLine, judge, seeks_knowledge
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.stores.llm import Llm
from lpm_kernel.stores.open import Stores

PEOPLE = ("1", "2")


def run(stores: Stores) -> None:
    """The whole curve here, where a setting takes minutes; `python -m bench.training_curve` draws a part of it, or on a GPU."""
    with tempfile.TemporaryDirectory(prefix="twin-bench-curve-") as folder:
        path = Path(folder) / "bundle.json"
        write_bundle(stores, path)
        base = load_base(prepare_base(stores.settings.models, cache_folder(), silent).hf_dir, "auto", None)
        points = grid(RANKS, EPOCHS, ROWS, (stores.settings.training.seed,), (stores.settings.training.learning_rate,))
        draw_curve(json.loads(path.read_text(encoding="utf-8")), base, points, people=set(PEOPLE), bare=False, out=None)


def write_bundle(stores: Stores, out: Path) -> None:
    llm = open_llm(stores.settings, silent)
    try:
        bundle = {"answer_tokens": stores.settings.evaluation.answer_tokens, "people": []}
        for user_id in PEOPLE:
            person = bundle_person(stores, llm, user_id, ROWS)
            bundle["people"].append(person)
            made = ", ".join(f"{len(rows)} rows of at most {count}" for count, rows in person["rows"].items())
            print(f"  {person['name']}: {made}; {len(person['questions'])} questions")
    finally:
        llm.close()
    out.write_text(json.dumps(bundle, ensure_ascii=False), encoding="utf-8")
    print(f"  {out}, {out.stat().st_size / 1e6:.1f} MB")


def bundle_person(stores: Stores, llm: Llm, user_id: str, counts: tuple[int, ...]) -> dict[str, Any]:
    """Rows by their number, and every golden question, answerable or not, as the model would be asked."""
    rows = make_rows(stores, user_id, counts)
    person = take_in(stores, user_id)
    expected = {question.question: question.expected for question in person.golden.questions}
    recall, answer_tokens = stores.settings.recall, stores.settings.evaluation.answer_tokens
    questions = []
    for question in (*expected, *person.golden.unanswerable):
        found = recall_evidence(
            user_id, person.generation, question, stores.vectors, stores.embedder, recall, lines=max(LINES, recall.lines)
        )
        pack = found[: recall.lines]
        confidence = judge(question, [FoundLine(line.text, line.cosine, line.score) for line in found])
        facts = expected.get(question, ())
        questions.append(
            {
                "question": question,
                "expected": list(facts),
                "answerable": question in expected,
                "in_pack": bool(facts) and any(holds_fact(line.text, facts) for line in pack),
                # As a chat does: what the notes do not answer is not asked of the model.
                "asked": not seeks_knowledge(question) or confidence >= recall.answer_confidence,
                "with_notes": _messages(fit_messages(person.user, question, pack, (), llm, answer_tokens)[0]),
                "bare": _messages(fit_messages(person.user, question, (), (), llm, answer_tokens)[0]),
            }
        )
    return {
        "user_id": user_id,
        "name": person.user.name,
        "rows": {str(count): [dataclasses.asdict(row) for row in made] for count, made in rows.items()},
        "questions": questions,
    }


def _messages(messages: Any) -> list[dict[str, str]]:
    return [dataclasses.asdict(message) for message in messages]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m bench.training_bundle OUT.json")
    on_engines(lambda stores: write_bundle(stores, Path(sys.argv[1])))


if __name__ == "__main__":
    main()
