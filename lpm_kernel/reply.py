"""The twin's half of a turn: its words as they come, and that they are kept once, whatever ends them.

Belongs here: asking who answers (`answering.py`), and storing what was said with the ballots drafted in it.
Does not belong here: what was recalled for it (`chat.py`), and transport.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lpm_kernel.answering import LEFT, Step, StepName, first_that_answers, quoted_line, tidy
from lpm_kernel.dao.ballot_draft import read_ballots
from lpm_kernel.errors import LlmError, StoreError, TwinError
from lpm_kernel.L2.adapter_files import fetch_adapter
from lpm_kernel.L2.prompt import DECLINE, as_line, instruct
from lpm_kernel.L2.voice_rules import read_voice_rules
from lpm_kernel.recall.confidence import seeks_knowledge
from lpm_kernel.records import ChatMessage
from lpm_kernel.stores.ballot_drafts import KeptDraft, keep_drafts
from lpm_kernel.stores.conversations import append_message, is_still_asked
from lpm_kernel.stores.documents import lock_documents
from lpm_kernel.stores.llm import AdapterFile, Llm, tenant_of
from lpm_kernel.stores.open import Stores
from lpm_kernel.turn import Turn, settle

_LOG = logging.getLogger(__name__)
MAY_DECLINE = f'If your notes do not answer the question, answer with these words alone: "{DECLINE}"'
"""For a model that was not trained on it."""


class Reply:
    """An iterator over the pieces of one answer; put together they are `text`. Nothing is asked before the first.

    What was said is stored when it ends, also when `close` ends it early; then it is marked as cut off, and no ballot is read
    out of it. Afterwards `turn` is what the answer left: without what failed, without lines where it declines.
    One that nobody waits for any more ends so too.
    Raises: LlmError `answer_empty` when the model ends without a word, `answer_unavailable` when no model answers and no line
    can be quoted; what `Llm.stream` raises; StoreError.
    """

    def __init__(self, stores: Stores, llm: Llm, turn: Turn, adapters: Path) -> None:
        self.turn = turn
        self.message: ChatMessage | None = None
        """The answer as it is stored, once it is."""
        self.drafts: list[KeptDraft] = []
        self._stores = stores
        self._llm = llm
        self._adapters = adapters
        self._quoted = False
        self._said: list[str] = []
        self._pieces = self._write()

    @property
    def text(self) -> str:
        return "".join(self._said)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        self._pieces.close()

    def _write(self) -> Generator[str, None, None]:
        whole = False
        try:
            for piece in tidy(self._answer() if self.turn.answerable else iter([DECLINE])):
                self._said.append(piece)
                yield piece
            if not self._said:
                raise LlmError("answer_empty", "the twin found no words for this question; ask it in others", retryable=False)
            whole = True
        except LlmError as error:
            # nobody hears of it; who comes back finds what was said, cut off
            if error.code != LEFT or not self._said:
                raise
        finally:
            self.turn = settle(self.turn, self.text)
            if self._said:
                self._keep(cut_off=not whole)

    def _keep(self, *, cut_off: bool) -> None:
        turn = self.turn
        message = ChatMessage(
            message_id=turn.answer_id,
            user_id=turn.user.user_id,
            session_id=turn.session_id,
            sender="twin",
            ts=datetime.now(UTC),
            content=self.text,
            citations=tuple(line.citation for line in turn.evidence),
            release_id=turn.release.release_id,
            degraded=turn.degraded,
            cut_off=cut_off,
            asker=turn.asker,
        )
        # half a ballot is none, and a quoted line is no decision of the twin
        drafts = () if cut_off or self._quoted or turn.asker else read_ballots(message.content, turn.asked.content)
        with self._stores.tables.transaction(message.user_id) as connection:
            if drafts:
                lock_documents(connection, message.user_id)  # a deletion that is under way finds their reasons, or they find it
            if turn.asker and not is_still_asked(connection, turn.asked):
                return  # who asked was deleted meanwhile, by whichever process, with all that they had said
            append_message(connection, message)
            self.drafts = keep_drafts(connection, message, drafts)
        self.message = message

    def _answer(self) -> Iterator[str]:
        steps = [Step("base", self._base)]
        if self.turn.with_adapter:
            steps.insert(0, Step("adapter", self._twin))
        if self._stores.answerer is not None:
            steps.insert(0, Step("answerer", self._elsewhere))
        return first_that_answers(steps, self._without, self._quote)

    def _without(self, step: StepName) -> None:
        self.turn = replace(self.turn, degraded=(*self.turn.degraded, step))

    def _elsewhere(self) -> Iterator[str]:
        answerer, turn = self._stores.answerer, self.turn
        assert answerer is not None
        messages = turn.messages
        if rules := self._voice_rules():
            messages = instruct(messages, " ".join(rules))
        if _may_decline(turn):
            messages = instruct(messages, MAY_DECLINE)
        return answerer.stream(messages, max_tokens=self._stores.settings.models.answer_tokens)

    def _voice_rules(self) -> tuple[str, ...]:
        """For a model that never learnt how the person writes, and is large enough to heed a rule: the small base is not."""
        try:
            return read_voice_rules(self._stores.blobs, self.turn.user.user_id)
        except StoreError as error:
            # what is answered does not hang on them
            _LOG.warning("the voice of user %s cannot be read: %s", self.turn.user.user_id, error.code)
            return ()

    def _twin(self) -> Iterator[str]:
        release, user_id = self.turn.release, self.turn.user.user_id
        file = release.gguf_key, release.gguf_sha256, release.base_sha256
        return self._decode(fetch_adapter(self._stores.blobs, user_id, *file, self._adapters))

    def _base(self) -> Iterator[str]:
        return self._decode(None)

    def _decode(self, adapter: AdapterFile | None) -> Iterator[str]:
        return self._llm.stream(
            self.turn.messages,
            tenant=tenant_of(self.turn.user.user_id, self.turn.asker),
            adapter=adapter,
            max_tokens=self._stores.settings.models.answer_tokens,
            declining=DECLINE if adapter and _may_decline(self.turn) else None,  # the base never learnt to decline
        )

    def _quote(self, failure: TwinError) -> Iterator[str]:
        """The best line as it stands, and nothing else that the answer would rest on."""
        turn = self.turn
        answers = seeks_knowledge(turn.asked.content) or turn.confidence >= self._stores.settings.recall.answer_confidence
        line = quoted_line(turn.lines if answers else (), failure)
        self.turn = replace(turn, lines=(line,))
        self._quoted = True
        yield as_line(line.text)


def _may_decline(turn: Turn) -> bool:
    return bool(turn.lines) and seeks_knowledge(turn.asked.content)
