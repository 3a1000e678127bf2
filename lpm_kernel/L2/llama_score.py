"""How likely the model finds short options after prompts: all prompts and options of a call are one tree of tokens, and what
several of them begin with is computed once.

Belongs here: the tree, cutting it into parts that fit a context, and adding up.
Does not belong here: places and adapters (`llama.py`), decoding itself (`llama_native.py`).

Why a tree: weights are read once for up to 128 of its tokens, while an option scored by itself reads them for one or two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.llama_batch import common_prefix
from lpm_kernel.L2.llama_native import READ_TOKENS, Context, Placed
from lpm_kernel.L2.prompt import neutralise, render_chatml
from lpm_kernel.records import Message

BRANCHES = 64
"""Options that are computed beside each other. More are computed one part after the other."""


def open_prompt(messages: Sequence[Message]) -> str:
    """The prompt up to where an option stands. A last message of the assistant is not closed: the option goes on with it."""
    if messages and messages[-1].role == "assistant":
        return render_chatml(messages[:-1], open_answer=True) + neutralise(messages[-1].content)
    return render_chatml(messages, open_answer=True)


@dataclass(frozen=True, slots=True)
class Branch:
    """A prompt's tokens and one option's behind them. `place`: where its likelihood belongs among those asked for."""

    place: int
    ids: list[int]
    prompt_tokens: int


def score_tree(context: Context, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]]) -> list[list[float]]:
    """Of each prompt and option the log-likelihood of the option's tokens. The context must be empty and is left anyhow.

    Units: nats. Raises: LlmError `decode_failed`.
    """
    branches = [
        Branch(number * len(options) + place, [*prompt, *option], len(prompt))
        for number, prompt in enumerate(prompts)
        for place, option in enumerate(options)
    ]
    found = [0.0] * len(branches)
    held: list[int] = []
    for part in _parts(sorted(branches, key=lambda branch: branch.ids), context.sequence_tokens):
        held = _Part(context, part, held).score(found)
    return [found[start : start + len(options)] for start in range(0, len(found), len(options))]


def _parts(branches: Sequence[Branch], room: int) -> Iterator[list[Branch]]:
    """Neighbours in the order of their tokens, as many as fit: they share most."""
    part: list[Branch] = []
    used = 0
    for branch in branches:
        shared = common_prefix(part[-1].ids, branch.ids) if part else 0
        if part and (len(part) == BRANCHES or used + len(branch.ids) - shared > room):
            yield part
            part, used, shared = [], 0, 0
        part.append(branch)
        used += len(branch.ids) - shared
    if part:
        yield part


@dataclass(slots=True)
class _Part:
    """Branches that are computed together, each in a sequence of its own. `held`: what sequence 0 holds already."""

    context: Context
    branches: list[Branch]
    held: list[int]
    _nodes: list[Placed] = field(default_factory=list[Placed])
    _asked: list[list[tuple[int, int]]] = field(default_factory=list[list[tuple[int, int]]])
    """Of each node: which branch asks there for which token."""

    def score(self, found: list[float]) -> list[int]:
        """Adds to `found`; returns what sequence 0 holds afterwards."""
        kept = self._keep()
        self._lay_out(kept)
        for at in range(0, len(self._nodes), READ_TOKENS):
            self.context.place(self._nodes[at : at + READ_TOKENS])
            for index, asked in enumerate(self._asked[at : at + READ_TOKENS]):
                if asked:
                    likelihoods = self.context.log_probabilities(index, [token for _, token in asked])
                    for (branch, _), likelihood in zip(asked, likelihoods, strict=True):
                        found[self.branches[branch].place] += likelihood
        return self.branches[0].ids[:-1]

    def _keep(self) -> int:
        """Leave in every sequence what all of them begin with and sequence 0 holds; returns how many tokens."""
        first, last = self.branches[0], self.branches[-1]
        shared = min(common_prefix(first.ids, last.ids), common_prefix(first.ids, self.held))
        # The last token of a prompt is always computed: its logits are the first thing asked for.
        kept = min(shared, min(branch.prompt_tokens for branch in self.branches) - 1)
        self.context.cut(0, kept)
        for sequence in range(1, BRANCHES):
            self.context.copy(0, sequence)
        return kept

    def _lay_out(self, kept: int) -> None:
        """The tree's nodes, each before those that follow it. A branch's last token is asked for and never computed."""
        path: list[int] = []
        """The node at each depth of the branch before."""
        before: list[int] = []
        for sequence, branch in enumerate(self.branches):
            ids = branch.ids[:-1]
            shared = max(kept, common_prefix(before, ids))
            path = path[: shared - kept]
            for depth in range(shared, len(ids)):
                path.append(len(self._nodes))
                self._nodes.append(Placed(ids[depth], depth, []))
                self._asked.append([])
            for depth, node in enumerate(path, kept):
                self._nodes[node].sequences.append(sequence)
                if depth + 1 >= branch.prompt_tokens:
                    self._nodes[node].wanted = True
                    self._asked[node].append((sequence, branch.ids[depth + 1]))
            before = ids


def check_room(prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]], context_tokens: int) -> None:
    """Raises: LlmError `option_empty`, `prompt_too_long`."""
    if not all(options):
        raise LlmError("option_empty", "an option without a word has no likelihood; leave it out", retryable=False)
    longest = max(map(len, options), default=0)
    for prompt in prompts:
        if len(prompt) + longest > context_tokens:
            raise LlmError(
                "prompt_too_long",
                f"a prompt of {len(prompt)} tokens leaves no room for an option of {longest} in {context_tokens}; "
                "ask more briefly or raise models.context_tokens",
                retryable=False,
            )
