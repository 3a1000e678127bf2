"""Checks: claims about each stage that must hold before the next one runs.

Belongs here: every check of every layer, for whoever loads or names one.
Does not belong here: the checks themselves (a module a layer).
"""

from twin_assets.checks.base import base_gguf_matches_weights
from twin_assets.checks.dao import ledger_is_whole, no_vote_is_overdue
from twin_assets.checks.l0 import (
    chunks_cover_every_byte,
    every_mention_is_at_its_bytes,
    no_word_is_of_two_entities,
    preferences_stand_in_the_users_own_text,
    vectors_are_unit_and_searchable,
)
from twin_assets.checks.l1 import (
    biography_cites_every_shade,
    community_summaries_are_cited,
    every_chunk_has_a_community,
    every_chunk_has_a_salience,
    every_chunk_has_a_topic,
    every_citation_is_at_its_bytes,
    every_topic_has_a_shade,
    graph_holds_the_known_facts,
)
from twin_assets.checks.l1_memories import memory_holds_what_documents_say, one_voice_without_an_end
from twin_assets.checks.l2 import (
    adapter_is_finite,
    every_kind_has_rows,
    gguf_matches_adapter,
    no_golden_question_in_training,
    no_held_out_text_in_training,
    row_classes_are_balanced,
    rows_are_supported_by_their_sources,
)
from twin_assets.checks.l2_evaluation import (
    no_canary_is_repeated,
    no_leak_between_tenants,
    pack_holds_nine_facts_of_ten,
    release_beats_base_with_retrieval,
    unanswerable_are_declined,
    voice_is_nearer_than_the_base,
)
from twin_assets.checks.release import release_names_what_is_there, release_passed_its_gates
from twin_assets.checks.social import every_group_can_be_read

__all__ = [
    "adapter_is_finite",
    "base_gguf_matches_weights",
    "biography_cites_every_shade",
    "chunks_cover_every_byte",
    "community_summaries_are_cited",
    "every_chunk_has_a_community",
    "every_chunk_has_a_salience",
    "every_chunk_has_a_topic",
    "every_citation_is_at_its_bytes",
    "every_group_can_be_read",
    "every_kind_has_rows",
    "every_mention_is_at_its_bytes",
    "every_topic_has_a_shade",
    "gguf_matches_adapter",
    "graph_holds_the_known_facts",
    "ledger_is_whole",
    "memory_holds_what_documents_say",
    "no_canary_is_repeated",
    "no_golden_question_in_training",
    "no_held_out_text_in_training",
    "no_leak_between_tenants",
    "no_vote_is_overdue",
    "no_word_is_of_two_entities",
    "one_voice_without_an_end",
    "pack_holds_nine_facts_of_ten",
    "preferences_stand_in_the_users_own_text",
    "release_beats_base_with_retrieval",
    "release_names_what_is_there",
    "release_passed_its_gates",
    "row_classes_are_balanced",
    "rows_are_supported_by_their_sources",
    "unanswerable_are_declined",
    "vectors_are_unit_and_searchable",
    "voice_is_nearer_than_the_base",
]
