"""A bundle: opened only when every file is what the manifest says and the body computes here what it computed there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fbkit.device_runtime.body import Body, normalise, open_body
from fbkit.device_runtime.head import Head, head_from_bytes
from fbkit.device_runtime.manifest import FILE_NAME, Manifest, parse_manifest, read_manifest_bytes
from fbkit.device_runtime.pictures import load_picture
from fbkit.device_runtime.probe import MAX_PROBE, Probe, SelfTest, probe_from_bytes, run_self_test
from fbkit.device_runtime.signature import check_signature, read_signature
from fbkit.device_runtime.solvers.step_graph import GraphStep, open_graph_step
from fbkit.device_runtime.tensors import Bytes, Float
from fbkit.device_runtime.trial import physical_memory, run_trial
from fbkit.device_runtime.verdicts import is_known_good, remember_good
from fbkit.errors import UserError
from fbkit.files import read_plain, sha256_bytes

_MAX_SMALL_FILE = 64 * 1024**2


@dataclass(frozen=True)
class Bundle:
    """An open bundle. Make one with ``Bundle.open``.

    Attributes:
        head: the head as shipped.
        probe: what the body is checked with.
    """

    folder: Path
    manifest: Manifest
    body: Body
    head: Head
    probe: Probe

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        threads: int | None = None,
        signed_by: str | os.PathLike[str] | None = None,
    ) -> Bundle:
        """Open a bundle folder: check every file against the manifest, and load the body.

        A bundle that this machine has not found good before is loaded and run in a process of its own first, where it
        can do no harm: its body must give the probe's features and logits, its step graph a step of SGD.

        Args:
            folder: what ``fbkit export`` wrote.
            threads: for an ONNX body; None leaves it to onnxruntime. ExecuTorch always uses its own pool.
            signed_by: the file of a public key that the bundle must be signed by; None asks for no signature.

        Raises:
            UserError: a file is missing, altered or cannot be loaded, the self-test fails, or the signature that was
                asked for is not there.
        """
        contents = read_contents(Path(folder), signed_by)
        if not is_known_good(contents.digest, contents.manifest.target):
            run_trial(contents.folder, contents.manifest, contents.digest)
            remember_good(contents.digest, contents.manifest.target)
        return contents.load(threads)

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
    def self_test(self) -> SelfTest:
        """What the body's check measures in this process.

        Raises:
            UserError: it fails.
        """
        return run_self_test(self.manifest, self.body, self.head, self.probe)

    @cached_property
    def graph_step(self) -> GraphStep:
        """The head's training step on the bundle's runtime."""
        return open_graph_step(self.manifest, self.read(self.manifest.head_step))

    def read(self, name: str) -> bytes:
        """A listed file's bytes.

        Raises:
            UserError: it was altered after the bundle was opened.
        """
        return read_file(self.folder, self.manifest, name)


@dataclass(frozen=True)
class Contents:
    """A bundle's files as they were read and found to be what the manifest says; nothing of them has run.

    Attributes:
        listed: the bytes of ``manifest.json``.
        body: the body's file.
    """

    folder: Path
    manifest: Manifest
    listed: bytes
    body: bytes
    head: Head
    probe: Probe

    @property
    def digest(self) -> str:
        """SHA-256 of ``manifest.json``, which holds those of all other files: it says which bundle this is."""
        return sha256_bytes(self.listed)

    def load(self, threads: int | None = None) -> Bundle:
        """Load the body in this process, which a hostile one can crash.

        Raises:
            UserError: it cannot be loaded.
        """
        with naming(self.folder):
            body = open_body(self.manifest, self.body, threads)
        return Bundle(self.folder, self.manifest, body, self.head, self.probe)


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Put the bundle's folder before messages that start with the name of a file in it."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{folder}: {error}") from error


def read_contents(folder: Path, signed_by: str | os.PathLike[str] | None = None) -> Contents:
    """Read every file of a bundle and check size, SHA-256 and, if asked for, signature.

    What was checked is what is used: of no file is more read than once.

    Raises:
        UserError: a file is missing, of another size, altered or not what it must be, or the bundle is not signed.
    """
    listed = read_manifest_bytes(folder)
    if signed_by is not None:
        check_signature(listed, read_signature(folder), Path(signed_by), folder)
    manifest = parse_manifest(listed, folder / FILE_NAME)
    size, memory = sum(entry.bytes for entry in manifest.files.values()), physical_memory()
    if size > memory // 2:
        raise UserError(f"{folder / FILE_NAME}: its files have {size} bytes, too many for this machine's {memory}")
    data = {}
    for name in manifest.files:
        content = read_file(folder, manifest, name)
        if name in (manifest.body, manifest.head, manifest.probe):  # the others are not kept in memory
            data[name] = content
    return Contents(
        folder,
        manifest,
        listed,
        data[manifest.body],
        head_from_bytes(data[manifest.head], len(manifest.classes), manifest.features, str(folder / manifest.head)),
        probe_from_bytes(data[manifest.probe], manifest, str(folder / manifest.probe)),
    )


def read_file(folder: Path, manifest: Manifest, name: str) -> bytes:
    """A listed file's bytes, checked.

    Raises:
        UserError: it is missing, not a plain file, of another size or altered.
    """
    path, entry, advice = folder / name, manifest.files[name], "copy the bundle again"
    if entry.bytes > (most := _most_bytes(manifest, name)):
        raise UserError(f"{path}: {FILE_NAME} gives it {entry.bytes} bytes, but it can have {most} at most")
    try:
        data = read_plain(path, entry.bytes)
    except UserError as error:
        raise UserError(f"{error}; {advice}") from error
    if len(data) != entry.bytes:
        found = f"more than {entry.bytes}" if len(data) > entry.bytes else str(len(data))
        raise UserError(f"{path}: has {found} bytes, {FILE_NAME} says {entry.bytes}; {advice}")
    if sha256_bytes(data) != entry.sha256:
        raise UserError(f"{path}: was altered, its SHA-256 is not the one in {FILE_NAME}; {advice}")
    return data


def _most_bytes(manifest: Manifest, name: str) -> int:
    """What a file of this kind can need, so that nothing absurd is read. A manifest bounds the two that are left."""
    if name in (manifest.body, manifest.model):
        return manifest.files[name].bytes
    spec, head = manifest.input, len(manifest.classes) * (manifest.features + 1)
    pixels = spec.height * spec.width * spec.channels
    numbers = {
        manifest.head: head,
        manifest.training_module: 4 * head,
        manifest.probe: MAX_PROBE * (2 * pixels + manifest.features + len(manifest.classes)),
    }
    return 4 * numbers.get(name, 0) + _MAX_SMALL_FILE
