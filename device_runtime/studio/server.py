"""Serving the studio on loopback until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.studio.app import make_app
from fbkit.device_runtime.studio.desk import Desk
from fbkit.device_runtime.studio.guard import ADDRESS
from fbkit.errors import Interrupted, UserError

_MOST_CONNECTIONS = 64


def serve(bundle: Bundle, profile: Path, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM.

    Args:
        profile: the profile folder; made when there is something to remember.
        port: 0 for any that is free.
        say: is given the page's address once it can be opened.

    Raises:
        UserError: the port is taken, or the profile cannot be used.
        Interrupted: it was ended by Ctrl-C.
    """
    desk, token = Desk(bundle, profile), secrets.token_urlsafe(24)
    with _listening(port) as listener:
        port = listener.getsockname()[1]
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # the app says what failed
        server = _Server(
            uvicorn.Config(
                make_app(desk, token, port),
                http="h11",
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=5,
            )
        )
        say(f"http://{ADDRESS}:{port}/#{token}")
        try:
            server.run([listener])
        finally:
            desk.close()
    if server.interrupted:
        raise Interrupted(f"the studio has ended; what it learned is in {profile}")


class _Server(uvicorn.Server):
    """Ends in order at SIGTERM and Ctrl-C. uvicorn's own would raise the signal again afterwards."""

    interrupted = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end, number)
        yield

    def _end(self, number: int) -> None:
        self.interrupted = self.interrupted or number == signal.SIGINT
        self.should_exit = True


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port}: is taken, or not yours to use; give another with --port, or 0") from error
        listener.listen(128)
        yield listener
