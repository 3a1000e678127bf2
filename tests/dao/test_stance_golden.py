"""How often the stance of the demo people is found, by their own documents, the real stores and the real model.

The rule was fitted on others, and their documents were not looked at for it; `python -m bench stance` prints every case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import yaml

from bench import stance_people
from bench.people import DATA, silent, take_in
from bench.stance import is_right
from lpm_kernel.dao.evidence import Memory, gather_evidence
from lpm_kernel.dao.stance import asked_of, weigh_evidence
from lpm_kernel.L2.engine import open_llm
from lpm_kernel.stores.open import Stores

pytestmark = pytest.mark.slow

LEAST = {"as put": 0.9, "unknown": 0.9}
"""Shares that are right. `unknown`: nobody wrote of it, so abstaining is."""
EVERY = {"as put": 1, "unknown": 3}
"""Which of them are asked here: all take five minutes."""
MOST_OPPOSED = {"as put": 0}
"""Ballots for the other side."""


def test_the_demo_peoples_opinions_are_found_and_where_there_is_none_it_is_said(
    stores: Stores, new_user: Callable[[], str]
) -> None:
    right, asked, opposed = Counter[str](), Counter[str](), Counter[str]()
    wrong: list[str] = []
    llm = open_llm(stores.settings, silent)
    try:
        for person in ("1", "2"):
            user_id = new_user()
            taken = take_in(stores, user_id, person)
            memory = Memory(user_id, taken.generation, taken.table.fingerprint)
            golden = yaml.safe_load((DATA / "golden" / f"{person}.yaml").read_bytes())["opinions"]
            tested = Counter[str]()
            for kind, put in stance_people.tested_with({item["proposal"]: item["stance"] for item in golden}):
                tested[kind] += 1
                if kind not in LEAST or tested[kind] % EVERY[kind]:
                    continue
                found = gather_evidence(stores, memory, asked_of(put))
                stance = weigh_evidence(found, put, stores.embedder, llm, stores.settings.stance, tenant=user_id)
                asked[kind] += 1
                right[kind] += is_right(stance, put)
                opposed[kind] += {stance.choice, put.stance} == {"for", "against"}
                if not is_right(stance, put):
                    wrong.append(f"{kind}: {person}, {put.title}: {put.stance}, found {stance.choice} {stance.abstained_why}")
    finally:
        llm.close()
    assert (asked["as put"], asked["unknown"]) == (16, 16)
    for kind, least in LEAST.items():
        assert right[kind] >= least * asked[kind], (kind, right[kind], asked[kind], wrong)
    for kind, most in MOST_OPPOSED.items():
        assert opposed[kind] <= most, (kind, wrong)
