"""The studio as a user starts it, in a process of its own."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import FBKIT


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> str:
        """What a refusal says: one line."""
        assert self.status >= 400, self.content
        said: str = self.json["error"]
        assert said
        assert "\n" not in said
        assert "Traceback" not in said
        return said


@dataclass(frozen=True)
class Studio:
    """A running one."""

    process: subprocess.Popen[str]
    address: str
    profile: Path

    @property
    def port(self) -> int:
        return int(self.address.partition("#")[0].rstrip("/").rpartition(":")[2])

    @property
    def token(self) -> str:
        return self.address.partition("#")[2]

    def ask(self, method: str, path: str, content: bytes = b"", **headers: str) -> Answer:
        """As the page does; ``headers`` come instead of its own, and an empty one leaves it out."""
        given = {"Authorization": f"Bearer {self.token}", **{name.replace("_", "-"): h for name, h in headers.items()}}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, content, {name: value for name, value in given.items() if value})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, path: str, value: Any = None, **headers: str) -> Answer:
        content = json.dumps({} if value is None else value).encode()
        return self.ask("POST", path, content, **{"Content_Type": "application/json", **headers})

    def state(self) -> Any:
        return self.ask("GET", "/api/state").json


@contextmanager
def running_studio(bundle: Path, profile: Path, *options: object) -> Iterator[Studio]:
    command = [FBKIT, "studio", bundle, "--profile", profile, *options]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("open http://127.0.0.1:"), process.stderr and process.stderr.read()
            yield Studio(process, line.removeprefix("open ").strip(), profile)
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()
