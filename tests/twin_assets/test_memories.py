"""The memories asset on real stores: what documents say reaches Mem0, and leaves it with its document."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from tests.twin_assets.conftest import Workshop, figures

pytestmark = pytest.mark.slow

STAGES = ["raw_documents", "chunks", "voice_profile", "memories"]
REST = "The café opens at nine, and we wait there. " * 40


def build(workshop: Workshop, user_id: str, text: str) -> tuple[dict[str, bool], dict]:
    workshop.add(user_id, "Ada", {"notes.md": f"# Café\n\n{text}\n\n{REST}"})
    result = workshop.build(user_id, asset_selection=[dg.AssetKey(name) for name in STAGES])
    assert result.success
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    return checks, figures(result, "memories")


def test_a_changed_document_takes_its_preference_along(workshop: Workshop) -> None:
    held = workshop.stores.memories
    checks, shown = build(workshop, "memories-ada", "I never drink coffee after noon.")
    assert checks["memory_holds_what_documents_say"]
    assert checks["one_voice_without_an_end"]
    assert (shown["memories_written"], shown["memories_kept"]) == (2, 0)
    now = datetime.now(UTC)
    [voice, coffee] = sorted(held.current("memories-ada", as_of=now), key=lambda memory: -memory.importance)
    assert (voice.kind, voice.importance, voice.expiration_date) == ("voice", 1.0, None)
    assert (coffee.kind, coffee.text, coffee.domain) == ("preference", "I never drink coffee after noon.", "coffee")
    _, shown = build(workshop, "memories-ada", "I prefer a small trial to a big promise.")
    assert shown["memories_removed"] == 1
    preferences = held.current("memories-ada", as_of=datetime.now(UTC), kinds=["preference"])
    assert [memory.text for memory in preferences] == ["I prefer a small trial to a big promise."]


def test_who_wrote_little_has_no_voice_and_the_reason_is_told(workshop: Workshop) -> None:
    workshop.add("memories-bo", "Bo", {"note.txt": "The bus leaves at nine.\n"})
    result = workshop.build("memories-bo", asset_selection=[dg.AssetKey(name) for name in STAGES])
    assert result.success
    assert figures(result, "memories")["no_voice_because"].startswith("voice_too_little_text")
    assert workshop.stores.memories.current("memories-bo", as_of=datetime.now(UTC)) == []
