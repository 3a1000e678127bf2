"""Counting a choice among several: one of them, any of them, or shares of them.

Belongs here: which choices are valid in each of the three ways, and their scores, exactly, as fractions where shares are.
Does not belong here: the rules of a proposal, which is for or against (`tally.py`).

Options are counted from 1, as voters see them. A choice that is not valid counts nowhere, nor in the total.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Vote:
    """`choice`: of one option its number, of any the list of numbers, of shares number to share. `weight`: of the voter."""

    choice: object
    weight: int


@dataclass(frozen=True, slots=True)
class Scores:
    """`by_option`: first that of option 1. `total`: the weight of all valid votes. `refused`: how many were not."""

    by_option: tuple[Fraction, ...]
    total: int
    refused: int


def single_choice(votes: Iterable[Vote], options: int) -> Scores:
    """Each vote's weight goes to the one option that it names."""
    return _scores(votes, options, _one_of)


def approval(votes: Iterable[Vote], options: int) -> Scores:
    """Each vote's weight goes in full to every option that it names."""
    return _scores(votes, options, _any_of)


def weighted(votes: Iterable[Vote], options: int) -> Scores:
    """Each vote's weight is divided between options after the shares that it names."""
    return _scores(votes, options, _shares_of)


def _scores(votes: Iterable[Vote], options: int, read: Callable[[object, int], Mapping[int, Fraction] | None]) -> Scores:
    sums = [Fraction(0)] * options
    total = refused = 0
    for vote in votes:
        shares = read(vote.choice, options) if vote.weight > 0 else None
        if shares is None:
            refused += 1
            continue
        total += vote.weight
        for option, share in shares.items():
            sums[option - 1] += vote.weight * share
    return Scores(tuple(sums), total, refused)


def _is_option(value: object, options: int) -> bool:
    return type(value) is int and 1 <= value <= options


def _one_of(choice: object, options: int) -> dict[int, Fraction] | None:
    return {choice: Fraction(1)} if isinstance(choice, int) and _is_option(choice, options) else None


def _any_of(choice: object, options: int) -> dict[int, Fraction] | None:
    """None for an empty list, an option that is not there, and one that is named twice."""
    if not isinstance(choice, Sequence) or not choice:
        return None
    named = [each for each in choice if isinstance(each, int) and _is_option(each, options)]
    return dict.fromkeys(named, Fraction(1)) if len(named) == len(choice) == len(set(named)) else None


def _shares_of(choice: object, options: int) -> dict[int, Fraction] | None:
    """None for shares under 0, for none above it, and for an option that is not there."""
    if not isinstance(choice, Mapping):
        return None
    shares: dict[int, Fraction] = {}
    for option, said in choice.items():
        share = _share_of(said)
        if not _is_option(option, options) or share is None or share < 0:
            return None
        shares[option] = share
    everything = sum(shares.values())
    return {option: share / everything for option, share in shares.items()} if everything else None


def _share_of(said: object) -> Fraction | None:
    """A float is what its digits say: 0.3 is three tenths, and not the binary number next to it."""
    if isinstance(said, bool):
        return None
    if isinstance(said, float):
        return Fraction(str(said)) if math.isfinite(said) else None
    return Fraction(said) if isinstance(said, int | Fraction) else None
