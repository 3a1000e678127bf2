"""How Telegram and X are read: the part of the settings under `social`.

Belongs here: those keys and their bounds.
Does not belong here: keys of accounts (variables that `stores` names) and what is done by them (`lpm_kernel/social`).
"""

from __future__ import annotations

from pydantic import Field

from lpm_kernel.settings_section import Section


class SocialSettings(Section):
    telegram_chats: tuple[str, ...]
    poll_interval_s: int = Field(ge=30)
    first_days: int = Field(ge=1)
    recheck_days: int = Field(ge=0)
    messages_a_poll: int = Field(ge=200)
    rest_hours: float = Field(ge=0)
    request_timeout_s: float = Field(gt=0)
    import_mb: int = Field(ge=1)
