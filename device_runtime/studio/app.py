"""The studio over HTTP: the page's files, and an API of JSON and pictures' bytes for the page alone."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fbkit.device_runtime.profile import ProfileBusy
from fbkit.device_runtime.studio.desk import Conflict, Desk
from fbkit.device_runtime.studio.guard import Guard
from fbkit.errors import UserError, describe
from fbkit.files import parse_json

MOST_PICTURE_BYTES = 32 * 1024**2
MOST_JSON_BYTES = 64 * 1024

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

Handler = Callable[[Request], Awaitable[Response]]


def make_app(desk: Desk, token: str, port: int) -> ASGIApp:
    api = _Api(desk)
    app = Starlette(
        routes=[
            *(_page_route(path) for path in sorted(_PAGE.iterdir()) if path.suffix in _TYPES),
            Route("/api/state", api.state),
            Route("/api/pictures", api.add, methods=["POST"]),
            Route("/api/pictures/{number:int}", api.thumbnail),
            Route("/api/classes", api.add_class, methods=["POST"]),
            Route("/api/remove", api.remove, methods=["POST"]),
            Route("/api/fit", api.fit, methods=["POST"]),
            Route("/api/rollback", api.roll_back, methods=["POST"]),
            Route("/api/predict", api.predict, methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _say_http,
            Conflict: _say_conflict,
            ProfileBusy: _say_conflict,
            UserError: _say_bad,
            OSError: _say_failed,
            Exception: _say_failed,
        },
    )
    return Guard(app, token, port)


def _page_route(path: Path) -> Route:
    content, kind = path.read_bytes(), _TYPES[path.suffix]

    async def answer(_request: Request) -> Response:
        return Response(content, media_type=kind)

    return Route("/" if path.name == "index.html" else f"/{path.name}", answer)


class _Api:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def state(self, request: Request) -> Response:
        """All there is to see; nothing where the page knows it already."""
        if request.query_params.get("known") == await run_in_threadpool(self._desk.version):
            return Response(status_code=204)
        return JSONResponse(await run_in_threadpool(self._desk.view))

    async def add(self, request: Request) -> Response:
        label = request.query_params.get("class", "")
        content = await _body(request, MOST_PICTURE_BYTES)
        return JSONResponse({"number": await run_in_threadpool(self._desk.add, content, label)}, 201)

    async def thumbnail(self, request: Request) -> Response:
        content = await run_in_threadpool(self._desk.thumbnail, request.path_params["number"])
        return Response(content, media_type="image/png")

    async def add_class(self, request: Request) -> Response:
        name = (await _json(request, "name")).get("name")
        if not isinstance(name, str):
            raise UserError("name: must be a text")
        await run_in_threadpool(self._desk.add_class, name)
        return JSONResponse({}, 201)

    async def remove(self, request: Request) -> Response:
        """Of pictures by number, or of a class."""
        given = await _json(request, "numbers", "class")
        numbers, label = given.get("numbers", []), given.get("class")
        if not isinstance(numbers, list) or not all(type(number) is int and 0 < number < 2**53 for number in numbers):
            raise UserError("numbers: must be a list of pictures' numbers")
        if not isinstance(label, str | None):
            raise UserError("class: must be a text")
        removal = await run_in_threadpool(self._desk.remove, numbers, label)
        return JSONResponse({"forgotten": removal.forgotten, "left": removal.left})

    async def fit(self, request: Request) -> Response:
        await _json(request)
        self._desk.start_fit()
        return JSONResponse({}, 202)

    async def roll_back(self, request: Request) -> Response:
        shown = (await _json(request, "in_use")).get("in_use")
        if not isinstance(shown, str | None):
            raise UserError("in_use: must be a text or null")
        return JSONResponse({"in_use": await run_in_threadpool(self._desk.roll_back, shown)})

    async def predict(self, request: Request) -> Response:
        content = await _body(request, MOST_PICTURE_BYTES)
        shipped = request.query_params.get("head") == "shipped"
        return JSONResponse(await run_in_threadpool(self._desk.predict, content, shipped))


async def _body(request: Request, most: int) -> bytes:
    """The request's body, of which no more is read than it may have.

    Raises:
        HTTPException: it has more, or nothing.
    """
    too_large = HTTPException(413, f"too large; at most {most} bytes are taken", {"Connection": "close"})
    declared = request.headers.get("content-length", "0")
    if int(declared) > most:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise too_large
    if not content:
        raise HTTPException(400, "the request has no content")
    return bytes(content)


async def _json(request: Request, *keys: str) -> dict[str, Any]:
    """One JSON object with no other keys than these."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the request must be application/json", {"Connection": "close"})
    given = parse_json(await _body(request, MOST_JSON_BYTES), Path("request"))
    if others := given.keys() - set(keys):
        raise UserError(f"request: unknown key {min(others)!r}")
    return given


# What people are told is one line, never a traceback.


async def _say_http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _say_conflict(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 409)


async def _say_bad(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _say_failed(_request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # to nobody
    if isinstance(error, OSError) and error.strerror:  # a full disk
        return JSONResponse({"error": f"{error.filename or 'the profile'}: {error.strerror}"}, 507)
    if os.environ.get("FBKIT_DEBUG"):
        traceback.print_exception(error)
    sys.stderr.write(f"fbkit: studio: {describe(error)}\n")
    return JSONResponse({"error": "the studio failed; start it with --debug to see where"}, 500)
