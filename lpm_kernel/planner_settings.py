"""How twins are consulted: the part of the settings under `planner`.

Belongs here: those keys and their bounds.
Does not belong here: what is done by them (`dao/planner`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lpm_kernel.settings_section import Section


class PlannerSettings(Section):
    twins: int = Field(ge=1, le=99)
    min_expertise: float = Field(ge=0, le=1)
    diversity: float = Field(ge=0, le=1)
    same_topics: float = Field(gt=0, le=1)
    same_lines: float = Field(gt=0, le=1)
    conflicts: Literal["heard", "left_out"]
    lines: int = Field(ge=1, le=20)
    line_cosine: float = Field(ge=-1, le=1)
    line_characters: int = Field(ge=40)
    heard: int = Field(ge=0, le=10)
    sway: float = Field(ge=0)
    min_confidence: float = Field(ge=0, le=1)
    movement: float = Field(ge=0, le=1)
    like_evidence: float = Field(ge=-1, le=1)
    conditions: int = Field(ge=0, le=20)
    rounds: int = Field(ge=1, le=10)
    statements: int = Field(ge=1)
    tokens: int = Field(ge=1)
    seconds: float = Field(gt=0)
    batch: int = Field(ge=1, le=100)
    unfinished: int = Field(ge=1, le=1000)
    open_proposals: bool
