"""Rules tell right answers from wrong ones: tried on answers written by hand for the demo person's own opinions."""

from __future__ import annotations

import pytest

from lpm_kernel.L2.frames import FITS, FITS_NOT, LEAVES_OUT
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.L2.prompt import DECLINE, declines
from lpm_kernel.L2.records import Side, Stance
from lpm_kernel.L2.scorers import judges_otherwise, side_of, takes_stance, tells
from tests.rules.sources import ROOT


@pytest.mark.parametrize(
    ("reply", "declined"),
    [
        (DECLINE, True),
        (f"  {DECLINE} ", True),
        (f"{DECLINE.rstrip('.')}, sorry.", True),
        ("I do not know.", False),
        ("", False),
        (f"Well. {DECLINE}", False),
    ],
)
def test_declining_is_the_one_sentence_a_twin_is_trained_to_say(reply: str, declined: bool) -> None:
    assert declines(reply) is declined


@pytest.mark.parametrize(
    ("words", "side"),
    [
        ("I am against P-07 as it stands.", "against"),
        ("I’m not in favour of it.", "against"),
        ("I do not support the metal printer.", "against"),
        ("I would vote no.", "against"),
        ("I don't like it at all.", "against"),
        ("I am strongly for P-14.", "for"),
        ("I'm for it, since a works must train.", "for"),
        ("I am not against it.", "for"),
        ("I support open designs after 90 days.", "for"),
        ("I will abstain until the text says more.", "undecided"),
        ("I have not made up my mind.", "undecided"),
        ("The printer stands in the shed for a year.", None),
        ("", None),
    ],
)
def test_the_side_that_words_take(words: str, side: Side | None) -> None:
    assert side_of(words) == side


@pytest.mark.parametrize(
    ("reply", "verdict", "otherwise"),
    [
        (FITS, FITS, False),
        (FITS_NOT, FITS, True),
        (FITS, FITS_NOT, True),
        (FITS, LEAVES_OUT, True),
        (LEAVES_OUT, FITS_NOT, False),
        ("It doesn’t really suit me.", FITS, True),
        ("I agree.", FITS_NOT, True),
        ("I disagree.", FITS_NOT, False),
        ("I swim before 8.", FITS, False),
        (f"{FITS} I never agree to the wrong tool.", FITS, False),
    ],
)
def test_a_verdict_is_told_from_its_opposite(reply: str, verdict: str, otherwise: bool) -> None:
    assert judges_otherwise(reply, verdict) is otherwise


def test_what_a_sentence_adds_to_its_question_must_be_told() -> None:
    question, sentence = "Where does the band play?", "The band plays in Victoria Park on Sunday."
    assert tells("In Victoria Park, on Sundays.", question, sentence)
    assert not tells("The band plays.", question, sentence), "the question's own words tell nothing"
    assert not tells("In the harbour on Monday.", question, sentence)
    assert not tells("", question, sentence)


RIGHT = {
    "P-07, Lights-out nights": ["I am against it while nobody is in the building.", "I oppose lights-out nights."],
    "P-09, Metal printer": ["I am against buying it now, because of the powder.", "I would vote no on the Aurora."],
    "P-11, Recycled first": ["I am for recycled first, and I came to it late.", "I support it; the net material passed."],
    "P-14, Apprentices": ["I am strongly for P-14.", "I am in favour: a works that trains nobody lives on others."],
    "P-18, Delegation": ["I will abstain on P-18 until every delegation runs out.", "I am undecided until the text changes."],
    "swimming": ["I like winter swimming far more than the summer kind.", "Winter water, I prefer it to summer."],
    "clock repair": ["I never charge friends for a clock.", "Some things should be cut with a file, slowly, in metal."],
    "teaching": [
        "I do a job slowly, then badly, and let the other person correct me.",
        "A table and thirty children round it.",
    ],
    "parenting": ["Imogen does not get a smartphone until she is fourteen."],
    "brass band": ["I like a tune to be let finish.", "Gresford, the miners' hymn, which I cannot play dry-eyed."],
    "reserve fund": ["I would keep it in a dull account with a dull bank, with two signatures."],
    "gate cameras": ["I would spend the money on a decent lamp over the gate and a bell that works."],
}
WRONG = {
    "P-07, Lights-out nights": ["I am for lights-out nights.", "Lights-out nights are a tradition in many towns."],
    "P-09, Metal printer": ["I support buying the metal printer.", "It is a machine that prints metal parts layer by layer."],
    "P-11, Recycled first": ["I am against recycled material.", "That's a topic I've been going over in my mind lately."],
    "P-14, Apprentices": ["I am against apprentices.", "Apprentices learn a trade.", DECLINE],
    "P-18, Delegation": ["I am for P-18.", "I am against it.", "The art of delegating is a skill."],
    "swimming": [
        "Swimming. It's a sport that's both exhilarating and intimidating.",
        "I do not like winter swimming.",
        DECLINE,
    ],
    "clock repair": ["Clock repair is a delicate craft.", "I always take £40 for mending one."],
    "teaching": ["Teaching is a rewarding profession.", "I believe in modern lessons with a projector."],
    "parenting": ["Parenting is hard but it is worth it.", "Children need love and patience."],
    "brass band": ["A brass band is a group of musicians.", "I do not like music of any kind."],
    "reserve fund": ["A reserve fund is money set aside.", "We should invest it in shares and hope for growth."],
    "gate cameras": ["They're a part of the modern era.", "They keep us all safe, so I support them."],
}


def test_hand_written_answers_are_told_apart() -> None:
    """A measure that calls everything right, or nothing, would show no difference between any two models."""
    data = (ROOT / "data" / "golden" / "1.yaml").read_bytes()
    stances = {stance.about: stance for stance in parse_golden(data).stances}

    def graded(answers: dict[str, list[str]]) -> dict[str, bool]:
        return {
            f"{about}: {reply}": takes_stance(reply, f"What do you think about {about}?", stances[about])
            for about, replies in answers.items()
            for reply in replies
        }

    assert [reply for reply, right in graded(RIGHT).items() if not right] == []
    assert [reply for reply, right in graded(WRONG).items() if right] == []


def test_a_preference_turned_round_is_not_the_persons() -> None:
    stance = Stance("food", None, ("I like soup after a swim.",))
    assert takes_stance("I like soup after a swim.", "What do you think about food?", stance)
    assert not takes_stance("I don't like soup after a swim.", "What do you think about food?", stance)
