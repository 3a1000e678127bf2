"""What a writer is asked to do with a draft, and the form of its answers.

Belongs here: the words of every request for training rows.
Does not belong here: the fence around what notes say (`fenced_prompt.py`), sending requests (`llm_items.py`), judging answers
(`enrich.py`).
"""

from __future__ import annotations

from typing import Any

from lpm_kernel.fenced_prompt import Form, fenced_messages
from lpm_kernel.L1.voice_words import describe_voice
from lpm_kernel.L2.drafts import Draft
from lpm_kernel.L2.persons import first_name
from lpm_kernel.L2.prompt import as_line
from lpm_kernel.records import Message, User, VoiceProfile


class Reworded(Form):
    question: str


class Rewritten(Form):
    question: str
    answer: str


class Told(Form):
    answer: str


_QUESTION = """Task: put `question` into other words, as another friend would ask for the very same thing.
One short sentence that ends in a question mark, with the same main words for things and people, spoken to the same person.
It must not give the answer away.
"""

_ANSWER = """Also put `answer` into other words, as the person would say it when asked: in the first person, one or two short
sentences, with the facts that answer the question, in the manner that `manner` describes. Only the notes that `answer` is
taken from count.
"""

_ANSWER_ABOUT = """Also put `answer` into other words, as someone who knows the person would say it of them, calling them by
`person`: one or two short sentences, with the facts that answer the question. Only the notes that `answer` is taken from count.
"""

_ENHANCE = """Task: `question` holds a request that the person makes of somebody who does not know them. Write `answer`: the
same request in the first person, made precise by those facts of the notes behind `answer` that matter for it. Ask for nothing
else. At most three sentences.
"""

_CRITIC = """Task: `question` holds a reply that somebody who does not know the person gave to them. Write `answer`: what the
person would say to that reply, in the first person. Begin with the first sentence of `answer` as it stands: it is the verdict.
Then name what in the reply fits the notes behind `answer` or conflicts with them, and which fact shows that. At most three
sentences.
"""


def form_of(draft: Draft) -> type[Form]:
    if draft.kind == "refusal":
        return Reworded
    return Told if draft.kind in ("context_enhance", "context_critic") else Rewritten


def write_messages(draft: Draft, user: User, voice: VoiceProfile | None) -> tuple[Message, ...]:
    material: dict[str, Any] = {
        "person": first_name(user.name or ""),
        "manner": describe_voice(voice.features) if voice and voice.features else "",
        "notes": [as_line(line.text) for line in draft.lines],
        "said_before": [message.content for message in draft.history],
        "question": draft.question,
    }
    if draft.kind != "refusal":
        material["answer"] = draft.answer
    return fenced_messages(_task(draft), material)


def _task(draft: Draft) -> str:
    if draft.kind == "context_enhance":
        return _ENHANCE
    if draft.kind == "context_critic":
        return _CRITIC
    if draft.kind == "refusal":
        return _QUESTION
    return _QUESTION + (_ANSWER if draft.person == "first" else _ANSWER_ABOUT)
