"""The studio over HTTP: what the page asks of it, and what strangers do."""

from __future__ import annotations

import io
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.profile import Limits, changing_profile
from tests.conftest import run_fbkit
from tests.device_runtime.conftest import BUNDLE, opened, snapshot, some
from tests.device_runtime.studio_server import Answer, Studio, running_studio
from tests.device_runtime.test_light import BLOCKED

MOST = 32 * 1024**2


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with running_studio(BUNDLE, tmp_path / "profile") as running:
        yield running


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """For requests that must change nothing."""
    folder = tmp_path_factory.mktemp("lasting") / "profile"
    Personalizer(Bundle.open(BUNDLE), folder).add(some("sneaker", 2), "sneaker")
    before = snapshot(folder)
    with running_studio(BUNDLE, folder) as running:
        yield running
        assert running.ask("GET", "/api/state").status == 200
    assert snapshot(folder) == before


def add(studio: Studio, label: str, count: int = 10, as_class: str | None = None) -> list[int]:
    numbers = []
    for path in some(label, count):
        answer = studio.ask("POST", f"/api/pictures?class={as_class or label}", path.read_bytes())
        assert answer.status == 201, answer.content
        numbers.append(answer.json["number"])
    return numbers


def fitted(studio: Studio) -> Any:
    """Personalize, and the state then."""
    assert studio.post("/api/fit").status == 202
    for _ in range(200):
        if not (state := studio.state())["fit"]["running"]:
            return state
        time.sleep(0.05)
    raise AssertionError("it does not end")


# The story.


def test_the_story_from_an_empty_profile_and_back(studio: Studio, demo: Bundle) -> None:
    empty = studio.state()
    assert not studio.profile.exists(), "nothing is to be remembered yet"
    assert (empty["pictures"], empty["in_use"], empty["before"], empty["verdict"]) == ([], None, None, None)
    picture = some("sneaker", 1, "test")[0].read_bytes()
    (shipped, *_) = studio.ask("POST", "/api/predict", picture).json["likely"]
    assert shipped["class"] == "sneaker"

    assert studio.post("/api/classes", {"name": "my shoe"}).status == 201
    numbers = add(studio, "sneaker", as_class="my%20shoe") + add(studio, "t-shirt")
    assert numbers == list(range(1, 21))
    state = fitted(studio)
    assert [picture["class"] for picture in state["pictures"]] == ["my shoe"] * 10 + ["t-shirt"] * 10
    assert not state["unlearned"]
    fit = state["fit"]
    assert fit["error"] is None
    steps, losses = zip(*fit["curve"], strict=True)
    assert list(steps) == list(range(len(steps)))
    assert (
        losses[0] == fit["result"]["loss_before"] > losses[-1] == pytest.approx(fit["result"]["loss_after"], abs=0.01)
    )
    verdict = fit["result"]["verdict"]
    assert (verdict["chosen"], verdict["verified"]) == ("candidate", True)
    assert verdict["correct"]["shipped"] < 60 < 90 < verdict["correct"]["candidate"]
    assert state["verdict"] | {"correct": verdict["correct"]} == verdict | {"time": state["verdict"]["time"]}
    assert state["in_use"] == opened(studio.profile, demo).state.in_use

    (likeliest, *_) = studio.ask("POST", "/api/predict", picture).json["likely"]
    assert likeliest["class"] == "my shoe"
    assert studio.ask("POST", "/api/predict?head=shipped", picture).json["likely"][0] == shipped

    assert studio.post("/api/rollback", {"in_use": state["in_use"]}).json == {"in_use": None}
    assert studio.ask("POST", "/api/predict", picture).json["likely"][0] == shipped
    assert "none before it" in studio.post("/api/rollback", {"in_use": None}).error

    assert studio.post("/api/remove", {"numbers": numbers[:2]}).json == {"forgotten": 2, "left": 18}
    assert studio.post("/api/remove", {"class": "my shoe"}).json == {"forgotten": 8, "left": 10}
    left = studio.state()
    assert "my shoe" not in left["classes"]
    assert [picture["number"] for picture in left["pictures"]] == list(range(11, 21))


def test_it_sees_what_others_do_and_says_nothing_twice(studio: Studio, demo: Bundle) -> None:
    version = studio.state()["version"]
    assert studio.ask("GET", f"/api/state?known={version}").status == 204
    Personalizer(demo, studio.profile).add(some("sneaker", 3), "sneaker")
    seen = studio.ask("GET", f"/api/state?known={version}").json
    assert len(seen["pictures"]) == 3
    assert seen["unlearned"]
    assert studio.ask("GET", f"/api/state?known={seen['version']}").status == 204


def test_pictures_are_shown_only_where_the_profile_keeps_them(studio: Studio, demo: Bundle) -> None:
    (number,) = add(studio, "sneaker", 1)
    assert "not kept" in studio.ask("GET", f"/api/pictures/{number}").error
    Personalizer(demo, studio.profile).set_limits(Limits(), keep_pictures=True)
    (number,) = add(studio, "t-shirt", 1)
    assert [picture["kept"] for picture in studio.state()["pictures"]] == [False, True]
    shown = studio.ask("GET", f"/api/pictures/{number}")
    assert shown.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(shown.content)) as thumbnail:
        found = np.asarray(thumbnail.resize((28, 28), Image.Resampling.BOX).convert("L"), float)
    with Image.open(some("t-shirt", 1)[0]) as original:
        assert np.abs(found - np.asarray(original.convert("L"), float)).mean() < 12


def test_two_tabs_do_not_corrupt_the_profile(studio: Studio, demo: Bundle) -> None:
    """They add, fit, remove and roll back at once, beside a command: each change happens or is refused in a line."""
    paths = some("sneaker") + some("t-shirt")
    answers: list[Answer] = []

    def tab(place: int) -> None:
        for path in paths[place::2]:
            answers.append(studio.ask("POST", f"/api/pictures?class={path.parent.name}", path.read_bytes()))
            answers.append(studio.post("/api/fit"))
            state = studio.state()
            answers.append(studio.post("/api/rollback", {"in_use": state["in_use"]}))
            answers.append(studio.post("/api/remove", {"numbers": [state["pictures"][0]["number"]]}))

    tabs = [threading.Thread(target=tab, args=(place,)) for place in (0, 1)]
    for each in tabs:
        each.start()
    beside = run_fbkit("profile", "add-class", BUNDLE, studio.profile, "hat")
    for each in tabs:
        each.join()
    assert beside.returncode in (0, 2)
    assert {answer.status for answer in answers} <= {200, 201, 202, 400, 409}
    assert all(answer.error for answer in answers if answer.status >= 400)
    state = fitted(studio)
    profile = opened(studio.profile, demo)
    assert [picture["number"] for picture in state["pictures"]] == profile.memory().numbers.tolist()
    assert profile.head() is not None
    added = {answer.json["number"] for answer in answers if answer.status == 201}
    assert len(added) == 20, "every picture was added, each with a number of its own"
    assert "hat" in profile.classes or beside.returncode == 2


def test_a_tab_that_shows_an_old_state_does_not_roll_back_twice(studio: Studio) -> None:
    add(studio, "sneaker", 3)
    first = fitted(studio)["in_use"]
    add(studio, "t-shirt", 3)
    second = fitted(studio)["in_use"]
    assert studio.post("/api/rollback", {"in_use": second}).json == {"in_use": first}
    late = studio.post("/api/rollback", {"in_use": second})
    assert late.status == 409
    assert "another head" in late.error
    assert studio.state()["in_use"] == first


def test_another_process_is_waited_for_and_one_fit_runs_at_a_time(studio: Studio, demo: Bundle) -> None:
    add(studio, "sneaker", 3)
    with changing_profile(studio.profile, demo.manifest):
        assert studio.post("/api/fit").status == 202
        second = studio.post("/api/fit")
        assert (second.status, second.error) == (409, "it is personalizing already")
        assert studio.state()["fit"]["running"], "and the page sees it, and can predict"
        assert studio.ask("POST", "/api/predict", some("sneaker")[0].read_bytes()).status == 200
        time.sleep(0.3)
    for _ in range(100):
        if not (fit := studio.state()["fit"])["running"]:
            break
        time.sleep(0.05)
    assert fit["result"]["head"] == studio.state()["in_use"]


def test_nothing_to_fit_is_said(studio: Studio) -> None:
    assert studio.post("/api/classes", {"name": "hat"}).status == 201
    assert fitted(studio)["fit"]["error"] == "there are no pictures to fit a head to; add some first"


# Strangers.


def test_who_is_not_the_page_is_refused(lasting: Studio) -> None:
    here = f"127.0.0.1:{lasting.port}"
    strangers: list[tuple[int, dict[str, str]]] = [
        (401, {"Authorization": ""}),
        (401, {"Authorization": lasting.token}),
        (401, {"Authorization": "Bearer "}),
        (401, {"Authorization": f"Bearer {lasting.token}x"}),
        (401, {"Authorization": f"Bearer {lasting.token[:-1]}"}),
        (401, {"Authorization": "Bearer \xe9\xe9"}),
        (403, {"Host": "evil.example"}),
        (403, {"Host": f"evil.example:{lasting.port}"}),
        (403, {"Host": "127.0.0.1"}),
        (403, {"Host": f"127.0.0.1.evil.example:{lasting.port}"}),
        (403, {"Origin": "https://evil.example"}),
        (403, {"Origin": "null"}),
        (403, {"Origin": f"https://{here}"}),
        (403, {"Origin": "http://127.0.0.1:1"}),
        (403, {"Origin": f"http://localhost:{lasting.port}"}),  # the same server, and another origin
        (403, {"Sec_Fetch_Site": "cross-site"}),
        (403, {"Sec_Fetch_Site": "same-site"}),
    ]
    content = some("t-shirt")[0].read_bytes()
    for status, headers in strangers:
        for method, path, body in (
            ("GET", "/api/state", b""),
            ("POST", "/api/pictures?class=t-shirt", content),
            ("POST", "/api/predict", content),
            ("POST", "/api/fit", b"{}"),
        ):
            answer = lasting.ask(method, path, body, **headers)
            assert answer.status == status, (headers, path)
            assert answer.error
            assert "access-control-allow-origin" not in answer.headers
    assert lasting.ask("GET", "/api/state", Origin=f"http://{here}", Sec_Fetch_Site="same-origin").status == 200
    assert lasting.ask("GET", "/api/state", Host=f"localhost:{lasting.port}").status == 200
    for path in ("/%61pi/state", "/api/../api/state", "//api/state", "/api/state/"):
        assert lasting.ask("GET", path, Authorization="").status in (401, 404), path
    preflight = lasting.ask("OPTIONS", "/api/fit", Origin="https://evil.example", Authorization="")
    assert preflight.status == 403


def test_only_loopback_listens(lasting: Studio) -> None:
    listening = subprocess.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True, check=False)
    found = re.findall(rf"([0-9A-F]+):{lasting.port:04X} [0-9A-F]+:0000 0A", listening.stdout)
    assert found == ["0100007F"] or not listening.stdout


def test_everything_that_comes_says_what_a_browser_may_do(lasting: Studio) -> None:
    page = lasting.ask("GET", "/", Authorization="")
    assert page.status == 200
    names = re.findall(r'(?:src|href)="([^"]+)"', page.content.decode())
    names += re.findall(r'from "\./([^"]+)"', lasting.ask("GET", "/studio.js", Authorization="").content.decode())
    assert {"studio.css", "studio.js", "icon.svg", "api.js"} <= set(names)
    answers = [page, *(lasting.ask("GET", f"/{name}", Authorization="") for name in names)]
    assert all(answer.status == 200 for answer in answers)
    answers += [lasting.ask("GET", path, Authorization="") for path in ("/api/state", "/nothing", "/../server.py")]
    answers += [lasting.ask("GET", "/api/state"), lasting.ask("DELETE", "/api/state")]
    for answer in answers:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
    assert not any("http" in name for name in names), "the page needs nothing from elsewhere"


def png(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    return file.getvalue()


def test_what_makes_no_sense_is_refused_in_a_line(lasting: Studio) -> None:
    picture = some("sneaker", 1, "test")[0].read_bytes()
    for path in ("/api/pictures?class=sneaker", "/api/predict"):
        assert lasting.ask("POST", path).error == "the request has no content"
        assert lasting.ask("POST", path, b"not a picture").error.startswith("picture: not a picture that can be read")
        assert "damaged" in lasting.ask("POST", path, picture[:150]).error
        assert "too many pixels" in lasting.ask("POST", path, png((20_000, 20_000))).error
    for label in ("", "nothing", "../sneaker", "%00", "a" * 5000, "%ff"):
        assert "no class" in lasting.ask("POST", f"/api/pictures?class={label}", picture).error
    for name in ("", "a/b", ".", "..", ".hidden", "a\nb", "\u202e", "x" * 201, "sneaker"):
        assert lasting.post("/api/classes", {"name": name}).status == 400, name
    bad: list[tuple[str, Any]] = [
        ("/api/classes", {"name": 3}),
        ("/api/classes", {}),
        ("/api/remove", {}),
        ("/api/remove", {"numbers": [99]}),
        ("/api/remove", {"numbers": [0]}),
        ("/api/remove", {"numbers": [True]}),
        ("/api/remove", {"numbers": "1"}),
        ("/api/remove", {"numbers": [10**30]}),
        ("/api/remove", {"class": "nothing"}),
        ("/api/remove", {"class": 1}),
        ("/api/remove", {"older_than": 0}),
        ("/api/rollback", {"in_use": 1}),
        ("/api/fit", {"penalty": 0}),
        ("/api/fit", []),
    ]
    for path, value in bad:
        answer = lasting.post(path, value)
        assert answer.status == 400, (path, value, answer)
        assert answer.error
    for content in (b"", b"{", b"\xff", b'{"a":1,"a":2}', b"[" * 2000, b'{"name": NaN}'):
        assert lasting.ask("POST", "/api/classes", content, Content_Type="application/json").status == 400
    assert lasting.ask("POST", "/api/fit", b"{}", Content_Type="text/plain").status == 415
    assert lasting.post("/api/classes", {"name": "x" * 70_000}).status == 413
    for method, path, status in (("GET", "/api/fit", 405), ("GET", "/nothing", 404), ("GET", "/api/pictures/x", 404)):
        answer = lasting.ask(method, path)
        assert answer.status == status
        assert answer.error
    assert "not kept" in lasting.ask("GET", f"/api/pictures/{10**30}").error


def raw(studio: Studio, *parts: bytes, until: bytes = b"\r\n\r\n") -> bytes:
    """What it answers to bytes; sending may be cut short."""
    with socket.create_connection(("127.0.0.1", studio.port), 20) as connection:
        found = b""
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while until not in found and (piece := connection.recv(65536)):
                found += piece
        except ConnectionResetError:
            pass
        return found


def test_what_is_too_large_is_refused_before_it_is_read(lasting: Studio) -> None:
    head = f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1:{lasting.port}\r\n".encode()
    token = f"Authorization: Bearer {lasting.token}\r\n".encode()
    declared = f"Content-Length: {MOST + 1}\r\n\r\n".encode()
    assert raw(lasting, head + token + declared).startswith(b"HTTP/1.1 413"), "by its length, without a byte of it"
    assert raw(lasting, head + declared).startswith(b"HTTP/1.1 401"), "a stranger, without a byte of it"
    piece = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    in_pieces = head + token + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = raw(lasting, in_pieces, *[piece] * (MOST // 0x100000 + 2))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")  # by its end the answer may be lost to the reset
    memory = Path(f"/proc/{lasting.process.pid}/status").read_text()
    assert int(memory.split("VmHWM:")[1].split()[0]) < 600_000


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /api/fit HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/fit HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=range(9),
)
def test_what_is_no_request_is_refused(lasting: Studio, sent: bytes) -> None:
    answer = raw(lasting, sent)
    assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer), answer[:100]
    assert lasting.ask("GET", "/api/state").status == 200


def test_a_client_that_goes_away_does_no_harm(lasting: Studio) -> None:
    head = f"POST /api/pictures?class=sneaker HTTP/1.1\r\nHost: 127.0.0.1:{lasting.port}\r\n"
    head += f"Authorization: Bearer {lasting.token}\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", lasting.port)) as connection:
        connection.sendall(head.encode() + bytes(500))
    assert lasting.ask("GET", "/api/state").status == 200


# Starting and ending.


def test_how_it_ends(tmp_path: Path) -> None:
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        with running_studio(BUNDLE, tmp_path / "profile") as studio:
            add(studio, "sneaker", 1)
            studio.process.send_signal(number)
            said = studio.process.communicate(timeout=15)[1]
        assert studio.process.returncode == code
        assert said.count("\n") == (number == signal.SIGINT)
        assert studio.token not in said


def test_what_cannot_be_served_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, said in (
            ((BUNDLE, "--profile", tmp_path / "other"), "not a profile"),
            ((tmp_path, "--profile", tmp_path / "new"), "not a bundle"),
            ((BUNDLE, "--profile", tmp_path / "new", "--port", port), f"port {port}: is taken"),
        ):
            ended = run_fbkit("studio", *arguments)
            assert ended.returncode == 2
            assert ended.stderr.count("\n") == 1
            assert said in ended.stderr


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_package_is_named_with_its_extra(missing: str, tmp_path: Path) -> None:
    code = BLOCKED.replace('"torch",', f'"torch", "{missing}",')
    command = [sys.executable, "-c", code, "studio", str(BUNDLE), "--profile", str(tmp_path / "profile")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "pip install 'fbkit[studio]'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_it_needs_no_cluster_package(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BLOCKED, "studio", str(BUNDLE), "--profile", str(tmp_path / "profile")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = process.stdout.readline().removeprefix("open ").strip()
        running = Studio(process, address, tmp_path / "profile")
        add(running, "sneaker", 2)
        assert fitted(running)["fit"]["error"] is None
        process.terminate()
