"""The console: one page that shows a text's way through the cascade, what thresholds do, and live traffic.

The page is a few static files, with no build step and nothing from other hosts. It asks the gateway it came from, as
any client does: whoever may not call ``/v1/check`` sees the page and no answer. What it knows of the taxonomy, and the
policy that comes with the embedded models, it gets from here, so that each is written down once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from cascade.policy import default_fitted_on, default_policy
from cascade.routing.escalation import near
from cascade.routing.triggers import UNREAD
from cascade.tune.sample import SLUG_OF
from stages.taxonomy import HAZARDS

PAGE = Path(__file__).parent / "page"

# Scripts, styles and calls of this origin alone, no markup from strings, and no frame around the page.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked again each time, and not sent again: another release is seen at once
}


def routes() -> Sequence[BaseRoute]:
    """``/`` and the files below ``/console``. They are open to everybody who reaches the port; the API is not."""
    return [
        Route("/", _page),
        Route("/console/taxonomy.json", _taxonomy),
        Route("/console/default-policy.toml", _default_policy),
        Mount("/console", _Files(directory=PAGE)),
    ]


class _Files(StaticFiles):
    """The page's files with its headers."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or 304 where the browser has it."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


async def _page(request: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers=HEADERS)


async def _taxonomy(request: Request) -> Response:
    """The hazards as people read them, the labels of stage 1 that are near to each, and what else labels call them."""
    hazards = [
        {"slug": hazard.slug, "code": hazard.code, "definition": hazard.definition, "near": near(hazard)}
        for hazard in HAZARDS
    ]
    return JSONResponse({"hazards": hazards, "labels": SLUG_OF, "unread": sorted(UNREAD)}, headers=HEADERS)


async def _default_policy(request: Request) -> Response:
    """The policy that comes with the embedded models, and which these are: a server may run others."""
    fitted_on = f"# Fitted on {' and '.join(default_fitted_on())}\n"
    return PlainTextResponse(fitted_on + default_policy().toml, media_type="application/toml", headers=HEADERS)
