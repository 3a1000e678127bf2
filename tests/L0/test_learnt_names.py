"""Names learnt from a corpus: what one sentence cannot tell, the others do."""

from __future__ import annotations

from lpm_kernel.errors import NerError
from lpm_kernel.L0.names import apply_names, learn_names
from lpm_kernel.stores.ner import SpacyNer

CORPUS = [
    "A robot called Otter loads the plates. Yesterday Otter dropped one.",
    "Swift 3 jammed and its nozzle broke. I cleaned Swift 12 too.",
    "My friend Bertil said no. I asked Bertil twice, and Bertil laughed.",
    "We live in Hamneda. The bus from Hamneda is slow, and a market is held in Hamneda.",
    "So much for P-21, the tool library.",
    "## P-22: night buses",
    "All the carols were sung, and we swam.",
]


def typed(text: str) -> set[tuple[str, str]]:
    ner = SpacyNer()
    results = [() if isinstance(result, NerError) else result.spans for result in ner.extract([*CORPUS, text])]
    names = learn_names(CORPUS, results[:-1])
    return {(span.text, span.type) for span in apply_names(text, results[-1], names)}


def test_a_name_has_the_type_that_the_other_sentences_give_it() -> None:
    assert ("Otter", "MACHINE") in typed("Otter is asleep.")
    assert ("Bertil", "PERSON") in typed("Bertil is asleep.")
    assert ("Hamneda", "GPE") in typed("Hamneda is asleep.")


def test_a_numbered_machine_is_named_with_its_number_and_its_plural_is_known() -> None:
    assert ("Swift 40", "MACHINE") in typed("Put it on Swift 40.")
    assert ("Swifts", "MACHINE") in typed("All the Swifts are idle.")


def test_a_surname_joins_a_known_first_name() -> None:
    assert ("Bertil Ohlin", "PERSON") in typed("Then Bertil Ohlin came.")


def test_a_greeting_is_no_part_of_a_name() -> None:
    assert ("Bertil", "PERSON") in typed("Dear Bertil, the saw is back.")


def test_what_a_proposal_is_about_is_a_topic_everywhere() -> None:
    found = typed("The tool library would be nice, and so would night buses.")
    assert {("tool library", "POLICY_TOPIC"), ("night buses", "POLICY_TOPIC")} <= found


def test_the_capital_of_a_first_word_is_no_name() -> None:
    assert typed("Carols in the cold.") == set()


def test_the_order_of_the_texts_does_not_matter() -> None:
    results = [() if isinstance(result, NerError) else result.spans for result in SpacyNer().extract(CORPUS)]
    assert learn_names(CORPUS, results) == learn_names(CORPUS[::-1], results[::-1])
