"""X's API (v2) on loopback, for Tweepy's own client: a user's posts page by page, look-ups, limits.

Belongs here: the answers in X's form. `asked` holds path and parameters of each request.
Does not belong here: tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.json_server import JsonServer

TOKEN = "AAAA-bearer"


def post(post_id: int, text: str, author: str, **more: Any) -> dict[str, Any]:
    """As X gives it; one an hour from noon of 2026-03-04, by its number."""
    return {
        "id": str(post_id),
        "text": text,
        "author_id": author,
        "conversation_id": str(more.pop("conversation_id", post_id)),
        "created_at": f"2026-03-{4 + post_id // 12:02}T{12 + post_id % 12:02}:00:00.000Z",
        "edit_history_tweet_ids": [str(item) for item in more.pop("edits", (post_id,))],
        **more,
    }


def goes_on(post_id: int, text: str, author: str, first: int, before: int) -> dict[str, Any]:
    return post(
        post_id,
        text,
        author,
        conversation_id=first,
        in_reply_to_user_id=author,
        referenced_tweets=[{"type": "replied_to", "id": str(before)}],
    )


class XServer(JsonServer):
    """`page_size` posts a page. After `limit_after` requests each is refused until `limit_after` is None."""

    def __init__(self, *posts: dict[str, Any]) -> None:
        super().__init__()
        self.posts = {int(each["id"]): each for each in posts}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.page_size = 100
        self.limit_after: int | None = None
        self.fails: tuple[int, Any] | None = None
        self.refuses: dict[str, tuple[int, Any]] = {}
        """What is answered about the posts of these accounts."""
        self.empty_first = False
        """Whether the first page has no post and says that there are more, as where all of it were reposts."""

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append((parts.path, query))
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"title": "Unauthorized", "type": "about:blank", "status": 401, "detail": "Unauthorized"}
        if self.limit_after is not None and len(self.asked) > self.limit_after:
            return 429, {"title": "Too Many Requests", "detail": "Too Many Requests", "type": "about:blank", "status": 429}
        if self.fails is not None:
            return self.fails
        if parts.path == "/2/tweets":
            return 200, self._looked_up([int(each) for each in query["ids"].split(",")])
        assert parts.path.startswith("/2/users/")
        assert query["exclude"] == "retweets"
        if (refusal := self.refuses.get(parts.path.split("/")[3])) is not None:
            return refusal
        return 200, self._page(parts.path.split("/")[3], query)

    def _page(self, author: str, query: dict[str, str]) -> dict[str, Any]:
        offset = int(query.get("pagination_token", "0"))
        if self.empty_first and offset == 0:
            return (
                {"meta": {"result_count": 0, "next_token": "0000"}}
                if "pagination_token" not in query
                else self._cut(author, query, 0)
            )
        return self._cut(author, query, offset)

    def _cut(self, author: str, query: dict[str, str], offset: int) -> dict[str, Any]:
        since, until = int(query.get("since_id", "0")), int(query.get("until_id", str(1 << 62)))
        own = sorted((n for n, each in self.posts.items() if each["author_id"] == author and since < n < until), reverse=True)
        found = own[offset : offset + self.page_size]
        if not found:
            return {"meta": {"result_count": 0}}
        meta: dict[str, Any] = {"result_count": len(found), "newest_id": str(found[0]), "oldest_id": str(found[-1])}
        if offset + self.page_size < len(own):
            meta["next_token"] = str(offset + self.page_size)
        return {"data": [self.posts[number] for number in found], "meta": meta}

    def _looked_up(self, wanted: list[int]) -> dict[str, Any]:
        answer: dict[str, Any] = {"data": [self.posts[number] for number in wanted if number in self.posts]}
        gone = [number for number in wanted if number not in self.posts]
        if gone:
            answer["errors"] = [
                {
                    "value": str(number),
                    "detail": f"Could not find tweet with ids: [{number}].",
                    "title": "Not Found Error",
                    "resource_type": "tweet",
                    "parameter": "ids",
                    "resource_id": str(number),
                    "type": "https://api.twitter.com/2/problems/resource-not-found",
                }
                for number in gone
            ]
        return answer
