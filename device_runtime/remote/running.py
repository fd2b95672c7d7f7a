"""fbkit's commands on a device: what they take from here is sent there for the time, what they say comes back."""

from __future__ import annotations

import io
import re
import secrets
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from fbkit.device_runtime.bundle import read_contents
from fbkit.device_runtime.remote.deploying import bundle_place, program_of
from fbkit.device_runtime.remote.link import Ended, Link, last_line, script
from fbkit.device_runtime.remote.shipping import NOTHING, ship_folder
from fbkit.device_runtime.remote.survey import Survey, survey_device
from fbkit.errors import UserError
from fbkit.files import refuse_existing, whole_folder

THERE = "device:"  # before a path that is the device's
_VISITS = "visits"  # in fbkit's folder there: of each command what was sent for it
_DAY = 1440  # minutes, after which a visit's folder is one that was left behind
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RUNTIME = re.compile(r"(python|native)-[0-9a-f]{16}")
Say = Callable[[str], None]


class Visit:
    """A bundle that was deployed, and what runs it there.

    Attributes:
        bundle: its folder there.
        runtime: which.
        shipped: what was sent.
    """

    def __init__(self, link: Link, survey: Survey, bundle: str, runtime: str, say: Say) -> None:
        self.bundle, self.runtime, self.shipped = bundle, runtime, NOTHING
        self._link, self._survey, self._say = link, survey, say
        self._folder = f"{survey.folder}/{_VISITS}/{secrets.token_hex(8)}"

    @property
    def is_native(self) -> bool:
        return self.runtime.startswith("native-")

    def path(self, path: Path) -> str:
        """Of a file or folder there: of what ``device:`` stands before, or of what is here and is sent.

        Raises:
            UserError: it is not here, or cannot be sent.
        """
        if str(path).startswith(THERE):
            return str(path).removeprefix(THERE)
        if not path.exists():
            raise UserError(f"{path}: is not here; for one on the device write {THERE}/PATH")
        name = path.resolve().name
        if path.is_dir():
            found = [each for each in sorted(path.rglob("*")) if each.is_file()]
            files = {f"{name}/{each.relative_to(path)}": each for each in found}
        else:
            files = {name: path}
        place = f"sent-{self.shipped.files}"
        self.shipped += ship_folder(self._link, self._folder, files, place, self._survey.free, self._say)
        return f"{self._folder}/{place}/{name}"

    def profile(self, name: str) -> str:
        """The folder there of a profile: of a name that fbkit keeps there, or of ``device:/PATH``."""
        return _profile_folder(self._survey, name)

    def stream(self, words: list[str]) -> int:
        """Run a command of the runtime's; its output goes to this process's own. Return its exit code."""
        return self._link.stream(self._command(words))

    def run(self, words: list[str]) -> Ended:
        """The same, but for its stdout, which is kept."""
        return self._link.run(self._command(words), speaks=True)

    def close(self) -> None:
        """Nothing that was sent stays there."""
        root = quote(f"{self._survey.folder}/{_VISITS}")
        lines = [f"rm -rf {quote(self._folder)}", f"[ -d {root} ] && command -v find >/dev/null || exit 0"]
        lines += [f"find {root} -mindepth 1 -maxdepth 1 -mmin +{_DAY} -exec rm -rf {{}} +"]
        script(self._link, lines, "remove what was sent")

    def _command(self, words: list[str]) -> list[str]:
        environment = ["env", f"XDG_CACHE_HOME={self._survey.folder}/cache", "FBKIT_CALLED_FROM_AFAR=1"]
        return [*environment, *program_of(self._survey.folder, self.runtime), *words]


@contextmanager
def visiting(link: Link, bundle: Path, say: Say, signed_by: Path | None = None) -> Iterator[Visit]:
    """What was deployed there for a bundle.

    Args:
        signed_by: public key that the bundle must be signed by; what is there is the same bundle.

    Raises:
        UserError: it is not there, or the device fails.
    """
    place = bundle_place(read_contents(bundle, signed_by))
    survey = survey_device(link)
    noted = link.run(["cat", f"{survey.folder}/{place}.runtime"])
    runtime = noted.out.decode(errors="replace").strip()
    if noted.code or not _RUNTIME.fullmatch(runtime):
        raise UserError(
            f"{link.name}: this bundle is not there; bring it there with: fbkit deploy {bundle} --to {link.name}"
        )
    visit = Visit(link, survey, f"{survey.folder}/{place}", runtime, say)
    try:
        yield visit
    finally:
        visit.close()


def bring_profile(link: Link, profile: str, folder: Path) -> None:
    """Copy a profile from there into a folder here, which must not exist.

    Raises:
        UserError: it is not there, or is no profile.
    """
    refuse_existing(folder)
    path = _profile_folder(survey_device(link), profile)
    ended = link.run(["tar", "-cf", "-", "-C", path, "."])
    if ended.code:
        raise UserError(f"{link.name}: {path}: cannot be read there ({last_line(ended.err)})")
    with whole_folder(folder) as partial:
        try:
            with tarfile.open(fileobj=io.BytesIO(ended.out)) as archive:
                archive.extractall(partial, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"{link.name}: {path}: did not arrive whole ({error})") from error
        if not (partial / "profile.json").is_file():
            raise UserError(f"{link.name}: {path}: is no profile")


def check_profile_name(name: str) -> None:
    """Raises UserError where it is neither the name of a profile that fbkit keeps there nor ``device:/PATH``."""
    if not (name.startswith(THERE) or _NAME.fullmatch(name)):
        raise UserError(f"--profile {name[:50]}: must be a plain name, or {THERE}/PATH for a folder there")


def _profile_folder(survey: Survey, name: str) -> str:
    check_profile_name(name)
    if name.startswith(THERE):
        return name.removeprefix(THERE)
    return f"{survey.folder}/profiles/{name}"
