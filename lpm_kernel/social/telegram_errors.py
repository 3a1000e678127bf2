"""Telethon's errors as ours.

Belongs here: which of them means what; none tells what was said, or an invitation.
Does not belong here: asking Telegram (`telegram_client.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lpm_kernel.errors import IngestionError, SettingsError

NO_ACCESS = {
    "ChannelPrivateError", "ChannelInvalidError", "ChannelPublicGroupNaError", "ChatAdminRequiredError", "ChatForbiddenError",
    "ChatIdInvalidError", "InviteHashEmptyError", "InviteHashExpiredError", "InviteHashInvalidError", "PeerIdInvalidError",
    "UserBannedInChannelError", "UserNotParticipantError", "UsernameInvalidError", "UsernameNotOccupiedError",
}  # fmt: skip


@contextmanager
def telegram_errors(about: str) -> Iterator[None]:
    """Telethon's errors as ours, without what was said."""
    from telethon import errors

    try:
        yield
    except errors.FloodError as error:
        pause_s = float(getattr(error, "seconds", 0) or 60)
        raise IngestionError(
            "telegram_flood", f"Telegram asks for a pause of {pause_s:.0f} s", retryable=True, retry_after_s=pause_s
        ) from error
    except errors.UnauthorizedError as error:
        raise SettingsError(
            "telegram_not_signed_in", f"Telegram takes the session no more ({type(error).__name__}): make another"
        ) from error
    except errors.RPCError as error:
        kind = type(error).__name__
        if kind in NO_ACCESS or isinstance(error, errors.ForbiddenError):
            raise IngestionError(
                "telegram_no_access",
                f"{about} cannot be read ({kind}): let the account join it, or take it out of the settings",
            ) from error
        transient = isinstance(error, errors.ServerError | errors.TimedOutError)
        raise IngestionError("telegram_refused", f"Telegram refused to show {about}: {kind}", retryable=transient) from error
    except ValueError as error:  # Telethon's own, where no entity answers to a name
        raise IngestionError(
            "telegram_no_access", f"Telegram knows no group {about!r} that this account may see: let it join, or mend the name"
        ) from error
    except (OSError, TimeoutError) as error:
        raise IngestionError(
            "telegram_unreachable", f"Telegram did not answer about {about}: {type(error).__name__}", retryable=True
        ) from error
