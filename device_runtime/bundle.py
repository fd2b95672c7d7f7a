"""A bundle: opened only when every file is what the manifest says and the body computes here what it computed there."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fbkit.device_runtime.body import Body, normalise, open_body
from fbkit.device_runtime.head import Head, head_from_bytes
from fbkit.device_runtime.manifest import FILE_NAME, Manifest, read_manifest
from fbkit.device_runtime.pictures import load_picture
from fbkit.device_runtime.probe import SelfTest, probe_from_bytes, run_self_test
from fbkit.device_runtime.solvers.step_graph import GraphStep, open_graph_step
from fbkit.device_runtime.tensors import Bytes, Float
from fbkit.errors import UserError
from fbkit.files import sha256_bytes


@dataclass(frozen=True)
class Bundle:
    """An open bundle. Make one with ``Bundle.open``.

    Attributes:
        head: the head as shipped.
        self_test: what the body's check on this machine measured.
    """

    folder: Path
    manifest: Manifest
    body: Body
    head: Head
    self_test: SelfTest

    @classmethod
    def open(cls, folder: str | os.PathLike[str], threads: int | None = None) -> Bundle:
        """Open a bundle folder: check every file against the manifest, load the body, run its self-test.

        Args:
            folder: what ``fbkit export`` wrote.
            threads: for an ONNX body; None leaves it to onnxruntime. ExecuTorch always uses its own pool.

        Raises:
            UserError: a file is missing, altered or cannot be loaded, or the self-test fails.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        data = read_files(folder, manifest)
        head = head_from_bytes(
            data[manifest.head], len(manifest.classes), manifest.features, str(folder / manifest.head)
        )
        probe = probe_from_bytes(data[manifest.probe], manifest, str(folder / manifest.probe))
        try:
            body = open_body(manifest, data[manifest.body], threads)
            return cls(folder, manifest, body, head, run_self_test(manifest, body, head, probe))
        except UserError as error:
            raise UserError(f"{folder}: {error}") from error

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    def decode(self, data: bytes, name: str = "picture") -> Bytes:
        """Decode a picture file's bytes to the body's size: uint8 [height, width, channels].

        Raises:
            UserError: it cannot be decoded; the message starts with ``name``.
        """
        spec = self.manifest.input
        return load_picture(data, spec.channels, spec.height, spec.width, name)

    def features(self, pictures: Sequence[Bytes]) -> Float:
        """Pictures as ``decode`` gives them to float32 [N, features]."""
        if not pictures:
            return np.zeros((0, self.manifest.features), np.float32)
        return self.body.features(normalise(np.stack(pictures), self.manifest.input))

    @cached_property
    def graph_step(self) -> GraphStep:
        """The head's training step on the bundle's runtime."""
        data = read_file(self.folder, self.manifest, self.manifest.head_step)
        return open_graph_step(self.manifest, data)


def read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Read every file of a bundle and check its size and SHA-256. What was checked is what is used.

    Raises:
        UserError: a file is missing, of another size or altered.
    """
    return {name: read_file(folder, manifest, name) for name in manifest.files}


def read_file(folder: Path, manifest: Manifest, name: str) -> bytes:
    """As ``read_files``, for one file."""
    path, entry = folder / name, manifest.files[name]
    advice = "copy the bundle again"
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: not a plain file; {advice}")
        if status.st_size != entry.bytes:
            raise UserError(f"{path}: has {status.st_size} bytes, {FILE_NAME} says {entry.bytes}; {advice}")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    if sha256_bytes(data) != entry.sha256:
        raise UserError(f"{path}: was altered, its SHA-256 is not the one in {FILE_NAME}; {advice}")
    return data
