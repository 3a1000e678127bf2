"""Second person to third: the name where the person was, verbs that agree, and nothing where that is not clean."""

from __future__ import annotations

import pytest

from lpm_kernel.L2.persons import first_name, in_third_person


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("What is your cat called?", "What is Nora's cat called?"),
        ("What are you paid at Harrow Point?", "What is Nora paid at Harrow Point?"),
        ("Which school do you like?", "Which school does Nora like?"),
        ("Do you have any tattoos?", "Does Nora have any tattoos?"),
        ("Have you ever broken a bone?", "Has Nora ever broken a bone?"),
        ("Were you born in May?", "Was Nora born in May?"),
        ("What date were you born on?", "What date was Nora born on?"),
        ("Don't you like cats?", "Doesn't Nora like cats?"),
        ("Are you not afraid?", "Is Nora not afraid?"),
        ("What did you play on Sunday?", "What did Nora play on Sunday?"),
        ("What can you not stand?", "What can Nora not stand?"),
        ("When are you flying out to see your brother?", "When is Nora flying out to see their brother?"),
        ("Which movement are you repairing, and why do you?", "Which movement is Nora repairing, and why do they?"),
        ("Which company made the movement you're repairing?", "Which company made the movement Nora is repairing?"),
        ("What burned while you were fetching your box?", "What burned while Nora was fetching their box?"),
        ("How big was it when you lost your job?", "How big was it when Nora lost their job?"),
        ("What do people think that you need?", "What do people think that Nora needs?"),
        ("What happens when you carry it?", "What happens when Nora carries it?"),
        ("Who gave you the screwdriver?", "Who gave Nora the screwdriver?"),
        ("What does the plot cost you a year?", "What does the plot cost Nora a year?"),
        ("What does your plot cost you?", "What does Nora's plot cost them?"),
        ("Who came cycling with you over the bridge?", "Who came cycling with Nora over the bridge?"),
        ("What did your boss make you do until you left?", "What did Nora's boss make them do until they left?"),
        ("What did somebody make you do?", "What did somebody make Nora do?"),
        ("When do Imogen and you fly?", "When do Imogen and Nora fly?"),
        ("Where did you and Gareth get married?", "Where did Nora and Gareth get married?"),
        ("Your cat, is it old?", "Nora's cat, is it old?"),
        ("Is the hat yours?", "Is the hat Nora's?"),
        ("Who are you?", "Who is Nora?"),
    ],
)  # fmt: skip
def test_a_question_to_the_person_becomes_one_about_them(asked: str, told: str) -> None:
    assert in_third_person(asked, "Nora") == told


@pytest.mark.parametrize(
    "asked",
    [
        "What is Imogen allergic to?",
        "Where may we park your car?",
        "Tell me about yourself.",
        "How much do you allow yourselves?",
        "What is the budget for the two of you?",
        "Why does Nora like your cat?",
        "Which box that you zorb is red?",
        "What if you'd stay?",
        "",
    ],
)
def test_what_cannot_be_turned_cleanly_is_left_alone(asked: str) -> None:
    assert in_third_person(asked, "Nora") is None


def test_without_a_name_nothing_is_turned() -> None:
    assert in_third_person("What is your cat called?", "") is None


@pytest.mark.parametrize(
    ("name", "first"), [("Nora Whitlock", "Nora"), ("Dr. Ada Byron", "Ada"), ("Cher", "Cher"), ("", ""), ("Mr", "")]
)
def test_the_first_name_is_the_first_word_that_is_no_title(name: str, first: str) -> None:
    assert first_name(name) == first
