"""`GET /twin/{user_id}/wiki`: a twin as a page to read.

Belongs here: which form of the page somebody is given.
Does not belong here: what stands in it (`lpm_kernel/wiki.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response

from lpm_kernel.mind import read_mind
from lpm_kernel.wiki import as_html, as_markdown, make_wiki
from twin_serving.data_schemas import WikiAnswer, wiki_out
from twin_serving.deps import ServicesDep

router = APIRouter()
Form = Literal["json", "md", "html"]
FORM_OF: dict[str, Form] = {
    "application/json": "json",
    "application/*": "json",
    "*/*": "json",
    "text/markdown": "md",
    "text/html": "html",
    "text/*": "md",
}
OTHER_FORMS = {200: {"content": {"text/markdown": {}, "text/html": {}}, "description": "The page in the form asked for"}}


@router.get("/twin/{user_id}/wiki", response_model=WikiAnswer, responses=OTHER_FORMS)  # type: ignore[arg-type]
def wiki(
    user_id: str,
    services: ServicesDep,
    format: Annotated[Form | None, Query(description="in place of `Accept`")] = None,
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """Biography, what is now, topics, communities and preferences, as sections with numbered citations.

    JSON; with `Accept: text/markdown` or `text/html`, or `format=md` or `html`, a page. Nothing is told of a deleted document.
    """
    page, form = make_wiki(read_mind(services.stores, user_id)), format or preferred_form(accept)
    headers = {"Vary": "Accept"}
    if form == "md":
        return Response(as_markdown(page), media_type="text/markdown; charset=utf-8", headers=headers)
    if form == "html":
        headers |= {"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"}
        return Response(as_html(page), media_type="text/html; charset=utf-8", headers=headers)
    return Response(wiki_out(page).model_dump_json(), media_type="application/json", headers=headers)


def preferred_form(accept: str) -> Form:
    """The form that an `Accept` header likes best of those there are; JSON where it likes none."""
    ranked: list[tuple[float, Form]] = []
    for item in accept.split(",")[:50]:
        name, _, parameters = item.partition(";")
        form = FORM_OF.get(name.strip().lower())
        weight = _weight(parameters)
        if form and weight > 0:
            ranked.append((weight, form))
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else "json"


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
