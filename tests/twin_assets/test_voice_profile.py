"""The voice_profile asset on real stores: figures, citations into the stored text, and silence where there is too little."""

from __future__ import annotations

import dagster as dg
import pytest

from lpm_kernel.artefacts import decode_record
from lpm_kernel.layout import asset_key, text_key
from lpm_kernel.records import VoiceProfile
from lpm_kernel.stores.blobs import TenantBlobs
from tests.twin_assets.conftest import Workshop, figures

pytestmark = pytest.mark.slow

STAGES = ["raw_documents", "chunks", "voice_profile"]


def build(workshop: Workshop, user_id: str, documents: dict[str, str]) -> tuple[VoiceProfile, dict]:
    workshop.add(user_id, "Ada", documents)
    result = workshop.build(user_id, asset_selection=[dg.AssetKey(name) for name in STAGES])
    assert result.success
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == {"chunks_cover_every_byte": True, "preferences_stand_in_the_users_own_text": True}
    own = TenantBlobs(workshop.stores.blobs, user_id)
    profile = decode_record(own.get(asset_key(user_id, "voice_profile", "json")), VoiceProfile)
    for item in profile.preferences:
        place = item.citation
        cited = own.get(text_key(user_id, place.document_sha256))[place.byte_start : place.byte_end].decode()
        assert " ".join(cited.split()) == item.text
    return profile, figures(result, "voice_profile")


def test_a_person_who_wrote_enough_has_features_and_preferences_with_exact_bytes(workshop: Workshop) -> None:
    notes = "# Café\n\nI never drink coffee after noon. I prefer a small trial to a big promise, for once.\n\n"
    profile, shown = build(workshop, "voice-ada", {"notes.md": notes + "The café opens at nine, and we wait there. " * 40})
    assert profile.absent is None
    assert profile.features is not None
    assert [(item.kind, item.polarity, item.domain) for item in profile.preferences] == [
        ("rule", "against", "coffee"),
        ("attitude", "for", "small trial"),
    ]
    assert shown["preferences"] == 2
    assert shown["words"] == profile.measured["words"] > 200
    assert "words_a_sentence_mean" in shown["features"]
    assert "small trial" in shown["sample"]


def test_a_person_who_wrote_little_has_the_reason_in_place_of_features(workshop: Workshop) -> None:
    profile, shown = build(workshop, "voice-bo", {"note.txt": "The bus leaves at nine.\n"})
    assert profile.features is None
    assert profile.preferences == ()
    assert shown["absent"].startswith("voice_too_little_text: 5 words")
