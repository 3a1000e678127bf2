"""The loss of some rows in one pass through the model: answer tokens only, however the rows are laid out.

Belongs here: laying rows out (padded, or packed into one sequence), the forward pass, and keeping what frozen layers compute.
Does not belong here: which rows stand in a pass (`training_batches.py`) and what follows from the loss (`train.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lpm_kernel.L2.training_batches import EncodedRow, shared_start

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Layout:
    """Token ids of one pass. Shapes: ids (b, t); places, of each row in order, index into b x t, one a token of the row."""

    ids: torch.Tensor
    positions: torch.Tensor | None
    mask: torch.Tensor | None
    """Who may look at whom, (1, 1, t, t); None: plainly causal."""
    places: tuple[torch.Tensor, ...]


def lay_padded(rows: Sequence[EncodedRow], device: Any = "cpu") -> Layout:
    """A line a row, padded on the right. Why no mask: causal attention never looks from a real token to what follows it."""
    import torch

    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
    places = tuple(torch.arange(index * longest, index * longest + len(row.ids)) for index, row in enumerate(rows))
    return Layout(ids.to(device), None, None, places)


def lay_packed(rows: Sequence[EncodedRow], device: Any = "cpu") -> Layout:
    """One sequence of all rows: positions count within each row, and no row sees another.

    The tokens that all rows begin with stand once and are seen by all: they compute the same in each of them.
    Why: on two cores it takes 5 to 10 % less than padding, more where rows are short.
    """
    import torch

    start = shared_start(rows)
    own = [len(row.ids) - start for row in rows]
    ids = torch.tensor([*rows[0].ids[:start], *(token for row in rows for token in row.ids[start:])])
    positions = torch.cat([torch.arange(start), *(torch.arange(start, start + length) for length in own)])
    owner = torch.cat([torch.zeros(start, dtype=torch.long), torch.repeat_interleave(torch.tensor(own)) + 1])
    mask = (owner[:, None] == owner[None, :]) | (owner == 0)[None, :]
    mask &= torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    places, at = [], start
    for length in own:
        places.append(torch.cat([torch.arange(start), torch.arange(at, at + length)]))
        at += length
    return Layout(ids[None].to(device), positions[None].to(device), mask[None, None].to(device), tuple(places))


def answer_loss_sum(model: Any, rows: Sequence[EncodedRow]) -> torch.Tensor:
    """Cross entropy summed over the answers' tokens, in nats; rows padded."""
    return AnswerLoss(model)(rows)


class AnswerLoss:
    """The loss of rows by one layout.

    Why logits at answer positions only: the output layer is a fifth of the model's work and most positions are prompt.
    With `first_layer` the layers under it stand still: nothing is differentiated there, and what they give is kept a row, so
    that it is computed once in all epochs.
    """

    def __init__(self, model: Any, *, packed: bool = False, first_layer: int = 0, keep_bytes: int = 0) -> None:
        self._causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._lay: Callable[..., Layout] = lay_packed if packed else lay_padded
        self._first_layer = first_layer
        self._room = keep_bytes
        self._kept: dict[EncodedRow, torch.Tensor] = {}

    def __call__(self, rows: Sequence[EncodedRow]) -> torch.Tensor:
        import torch

        causal = self._causal
        device = causal.device
        layout = self._lay(rows, device)
        places = [place.to(device) for place in layout.places]
        half = causal.get_input_embeddings().weight.dtype == torch.bfloat16
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            hidden = self._hidden(rows, layout, places)
            asking = torch.cat([place[row.answer_start - 1 : -1] for row, place in zip(rows, places, strict=True)])
            logits = causal.lm_head(hidden.flatten(0, 1)[asking])
        answers = torch.tensor([token for row in rows for token in row.ids[row.answer_start :]], device=device)
        return torch.nn.functional.cross_entropy(logits.float(), answers, reduction="sum")

    def _hidden(self, rows: Sequence[EncodedRow], layout: Layout, places: Sequence[torch.Tensor]) -> torch.Tensor:
        inner = self._causal.model
        given = {"position_ids": layout.positions, "attention_mask": layout.mask}
        if not self._first_layer:
            return inner(input_ids=layout.ids, **given).last_hidden_state
        below = self._below(inner, rows, layout, places, given)
        with _only_layers(inner, slice(self._first_layer, None), with_norm=True):
            return inner(inputs_embeds=below, **given).last_hidden_state

    def _below(
        self, inner: Any, rows: Sequence[EncodedRow], layout: Layout, places: Sequence[torch.Tensor], given: dict[str, Any]
    ) -> torch.Tensor:
        """What the layers under `first_layer` give, from what was kept where all of it was."""
        import torch

        if all(row in self._kept for row in rows):
            below = self._kept[rows[0]].new_zeros(layout.ids.numel(), self._kept[rows[0]].shape[-1])
            for row, place in zip(rows, places, strict=True):
                below[place] = self._kept[row]
            return below.view(*layout.ids.shape, -1)
        with torch.no_grad(), _only_layers(inner, slice(self._first_layer), with_norm=False):
            below = inner(input_ids=layout.ids, **given).last_hidden_state
        flat = below.flatten(0, 1)
        for row, place in zip(rows, places, strict=True):
            kept = flat[place]
            size = kept.numel() * kept.element_size()
            if row not in self._kept and size <= self._room:
                self._kept[row] = kept
                self._room -= size
        return below


@contextmanager
def _only_layers(inner: Any, which: slice, *, with_norm: bool) -> Iterator[None]:
    """Let the model be some of its layers for a while."""
    import torch

    layers, norm = inner.layers, inner.norm
    inner.layers = layers[which]
    if not with_norm:
        inner.norm = torch.nn.Identity()
    try:
        yield
    finally:
        inner.layers, inner.norm = layers, norm
