"""Finding a profile, and holding it while it is changed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fbkit.device_runtime.manifest import Manifest
from fbkit.device_runtime.profile.state import FILE_NAME, State, read_state
from fbkit.device_runtime.profile.store import FOLDERS, TEMPORARY, Profile
from fbkit.errors import UserError
from fbkit.files import write_json


def find_profile(folder: Path, manifest: Manifest, other_bundle: bool = False) -> Profile | None:
    """The profile in ``folder``, which must belong to the bundle; None where one can be made.

    Args:
        other_bundle: whether it may belong to another bundle.

    Raises:
        UserError: something else is there, or the profile belongs to another bundle.
    """
    if (folder / FILE_NAME).exists():
        state = read_state(folder)
        if state.bundle != manifest.identity and not other_bundle:
            raise UserError(
                f"{folder}: this profile was made with another bundle; give the bundle it was made with, "
                "or personalize into a new folder"
            )
        if state.bundle == manifest.identity and state.classes[: len(manifest.classes)] != manifest.classes:
            raise UserError(f"{folder / FILE_NAME}: its first classes are not the bundle's")
        return Profile(folder, manifest, state)
    if folder.exists() and not (folder.is_dir() and all(_may_be_ours(path.name) for path in folder.iterdir())):
        raise UserError(f"{folder}: exists and is not a profile; choose another folder")
    return None


class ProfileBusy(UserError):
    """Another process is changing the profile: what was asked for may well work in a moment."""


@contextmanager
def changing_profile(folder: Path, manifest: Manifest, other_bundle: bool = False) -> Iterator[Profile]:
    """Hold the profile in ``folder`` against other processes while it is changed; make it where there is none.

    Raises:
        ProfileBusy: another process holds it.
        UserError: it cannot be made, or as ``find_profile``.
    """
    find_profile(folder, manifest, other_bundle)  # before anything is made in a folder that is somebody else's
    try:
        for name in FOLDERS:
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProfileBusy(f"{folder}: another process is changing this profile; try again") from error
        profile = find_profile(folder, manifest, other_bundle)
        if profile is None:
            profile = Profile(folder, manifest, State(manifest.identity, manifest.classes))
            write_json(folder / FILE_NAME, profile.state.to_json(), private=True, compact=True)
        profile.sweep()
        try:
            yield profile
        except BaseException:
            with suppress(OSError, UserError):
                profile.sweep()  # a full disk has room again
            raise
    finally:
        os.close(descriptor)


def _may_be_ours(name: str) -> bool:
    """Whether a profile that was never finished can hold this."""
    return name in (*FOLDERS, "lock") or TEMPORARY.fullmatch(name) is not None
