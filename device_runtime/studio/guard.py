"""Who may speak to the studio: this page, opened with the token, on this machine. Everybody else is refused."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ADDRESS = "127.0.0.1"
_NAMES = (ADDRESS, "localhost")

# What a browser may do with anything that comes from here.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests before anything of their body is read, and says with every answer what browsers may do.

    The page's own files hold nothing of anybody's and need no token: the token is in the URL's fragment, which browsers
    send to nobody, and the page sends it with each call of ``/api``.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"{name}:{port}" for name in _NAMES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send_guarded)
        else:
            status, reason = refusal
            answer = JSONResponse({"error": reason}, status, {"Connection": "close"})
            await answer(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """A status and why, if the request is refused."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self._hosts:  # a name that leads here is not enough: a stranger's page can have one
            return 403, f"the studio answers at {ADDRESS} only"
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return 403, "another site may not call the studio"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "another site may not call the studio"
        if scope["path"].startswith("/api/"):
            given = headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                return 401, "the token is missing or old; open the address that fbkit studio printed"
        return None
