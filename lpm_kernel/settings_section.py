"""What every part of the settings is: read once, never changed, and without a key that nobody knows.

Belongs here: that base.
Does not belong here: keys (`settings.py` and the files of its larger parts).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
