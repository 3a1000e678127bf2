"""The settings of how a twin comes to a stance.

Belongs here: `stance` of the settings file. Does not belong here: reading that file (`settings.py`).
"""

from __future__ import annotations

from pydantic import Field

from lpm_kernel.settings_section import Section


class StanceSettings(Section):
    lines: int = Field(ge=1, le=50)
    memories: int = Field(ge=0)
    facts: int = Field(ge=0)
    preference_tokens: int = Field(ge=0)
    pack_tokens: int = Field(ge=1)
    min_evidence: float = Field(ge=0.0, le=1.0)
    min_confidence: float = Field(ge=0.0, le=1.0)
    reasons: int = Field(ge=1)
    reasons_characters: int = Field(ge=100, le=2000)
