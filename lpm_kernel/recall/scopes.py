"""Who may hear what: the person everything, somebody else who talks with their twin only what is shared.

Belongs here: the rule, as pure questions over records. What was said in chats is private, and so is what was made of it; a
document and what was made of it is shared unless the person keeps that document to themself.
Does not belong here: leaving lines out (`plan.py`), and who is asking (the API).

Recall asks before it ranks: what is withheld is no candidate, so that neither a line nor a score tells of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lpm_kernel.errors import UserInputError
from lpm_kernel.L1.records import Community
from lpm_kernel.records import USER_ID_PATTERN, Fact, Memory, Release

_SHARED_RELATIONS = frozenset({"AUTHORED", "MENTIONS", "HAS_TWIN"})
"""Facts out of documents, and that there is a twin; that the person talked with it, and how they voted, is theirs to tell."""


@dataclass(frozen=True, slots=True)
class Scope:
    """`asker` is None for the person themself. `withheld`: sha256 of the documents that nobody else may hear of."""

    asker: str | None = None
    withheld: frozenset[str] = frozenset()

    @property
    def is_own(self) -> bool:
        return self.asker is None

    def allows_document(self, sha256: str) -> bool:
        return self.is_own or sha256 not in self.withheld

    def allows_memory(self, memory: Memory) -> bool:
        """A memory without a document was said in a chat."""
        return self.is_own or (memory.citation is not None and self.allows_document(memory.citation.partition(":")[0]))

    def allows_fact(self, fact: Fact) -> bool:
        named = [end.name for end in (fact.subject, fact.object) if end.kind == "Document"]
        return self.is_own or (fact.relation in _SHARED_RELATIONS and all(map(self.allows_document, named)))

    def allows_weights(self, release: Release) -> bool:
        """Whether the adapter learnt from nothing that is withheld; one that does not say from what counts as if it did."""
        if self.is_own or not self.withheld:
            return True
        return release.documents is not None and self.withheld.isdisjoint(release.documents)

    def shared_of(self, communities: Sequence[Community]) -> list[Community]:
        """Each with those of its lines that may be heard."""
        if self.is_own:
            return list(communities)
        return [
            replace(item, lines=tuple(line for line in item.lines if self.allows_document(line.citation.document_sha256)))
            for item in communities
        ]


OWN = Scope()


def check_asker(asker: str | None, user_id: str) -> str | None:
    """The asker, or None where it is the person themself. Raises: UserInputError `asker_invalid`."""
    if asker is None or asker == user_id:
        return None
    if not USER_ID_PATTERN.fullmatch(asker):
        raise UserInputError("asker_invalid", "an asker is named like a user: 1-63 of a-z, 0-9, '-' and '_'")
    return asker
