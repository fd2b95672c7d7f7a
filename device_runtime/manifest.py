"""The bundle's manifest: what is in a bundle, read from JSON that is not believed until every field was checked.

docs/bundle.md describes the format.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fbkit.device_runtime.fields import Fields
from fbkit.errors import UserError
from fbkit.files import MAX_JSON_BYTES, parse_json, read_plain, sha256_bytes

SCHEMA = "fbkit.bundle"
VERSION = 2  # older ones are read too
FILE_NAME = "manifest.json"
SIGNATURE_NAME = "signature.json"
TARGETS = ("onnx", "executorch")
PRECISIONS = ("fp32", "int8")
MAX_SIDE = 4096
MAX_CLASSES = 100_000
LEAST_STD = 1e-6

_MAX_FEATURES = 1_000_000
_MAX_FILE_BYTES = 2 * 1024**3
# Above it the self-test would prove nothing. Rounding to 8 bits turns on the last bit of what is rounded.
_MAX_TOLERANCE = {"fp32": 0.01, "int8": 0.1}
_MAX_EPOCHS = 100_000
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the body's input: uint8 [height, width, channels], then (value / 255 - mean) / std."""

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def at_once(self) -> int:
        return pictures_at_once(self.height, self.width)


def pictures_at_once(height: int, width: int) -> int:
    """How many pictures a body looks at together: few enough that large ones do not fill a small memory."""
    return max(1, min(32, 2**17 // (height * width)))


@dataclass(frozen=True)
class FileEntry:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Defaults:
    """How to personalize where nobody says otherwise, as export found it best on training clients.

    epochs, lr, momentum and batch_size are SGD's. penalty: strength of the pull to the shipped head, for a loss that is
    the sum of the pictures' cross-entropies plus penalty / 2 times the squared distance of weight and bias.
    """

    epochs: int = 5
    lr: float = 0.01
    momentum: float = 0.9
    batch_size: int = 50
    penalty: float = 1.0


@dataclass(frozen=True)
class Manifest:
    """A checked manifest.

    Attributes:
        version: of the format that the bundle was written in.
        body_batches: the batch sizes that the body was exported for; empty where any batch will do (ONNX).
        step_batch: rows that the head's step graph takes at once.
        step_classes: classes that it takes: the bundle's, and room for a device's own.
        model: the file of body and head in one, pictures to logits, for devices that only predict; None if left out.
        training_module: the file for ExecuTorch's own training API; None if left out.
        personalization: what a device does by default.
        feature_tolerance: largest error of inputs, features and logits that the self-test allows, relative to the
            largest value of the kind in the probe.
        graph: what the body is made of; for people, not interpreted.
        provenance: where the bundle comes from; for people, not interpreted.
        verification: what export measured; for people, not interpreted.
    """

    version: int
    target: str
    precision: str
    classes: tuple[str, ...]
    input: InputSpec
    features: int
    body: str
    body_batches: tuple[int, ...]
    head: str
    head_step: str
    step_batch: int
    step_classes: int
    probe: str
    feature_tolerance: float
    files: dict[str, FileEntry]
    provenance: dict[str, Any]
    verification: dict[str, Any]
    graph: dict[str, Any] = field(default_factory=dict)
    personalization: Defaults = Defaults()
    model: str | None = None
    training_module: str | None = None

    @cached_property
    def identity(self) -> str:
        """Hex digest of what decides a prediction: a profile belongs to the identity it was made with."""
        deciding = {key: value for key, value in asdict(self).items() if key in _DECIDING}
        return sha256_bytes(json.dumps(deciding, sort_keys=True).encode())

    def to_json(self) -> dict[str, Any]:
        optional = {"model": self.model, "training_module": self.training_module}
        return {
            "schema": SCHEMA,
            "version": self.version,
            "target": self.target,
            "precision": self.precision,
            "classes": list(self.classes),
            "input": {**asdict(self.input), "mean": list(self.input.mean), "std": list(self.input.std)},
            "features": self.features,
            "body": {"file": self.body, "batch_sizes": list(self.body_batches)},
            "head": {"file": self.head},
            "head_step": {"file": self.head_step, "batch_size": self.step_batch, "classes": self.step_classes},
            "probe": {"file": self.probe, "tolerance": self.feature_tolerance},
            **{key: {"file": name} for key, name in optional.items() if name},
            "files": {name: asdict(entry) for name, entry in self.files.items()},
            "personalization": asdict(self.personalization),
            "graph": self.graph,
            "provenance": self.provenance,
            "verification": self.verification,
        }


# The other fields can change without changing what a head means.
_DECIDING = (
    *("target", "precision", "classes", "input", "features", "body", "body_batches", "head", "head_step", "step_batch"),
    *("probe", "feature_tolerance", "files"),
)


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``manifest.json`` of a bundle folder.

    Raises:
        UserError: no bundle there, or as ``parse_manifest``.
    """
    return parse_manifest(read_manifest_bytes(folder), folder / FILE_NAME)


def read_manifest_bytes(folder: Path) -> bytes:
    """The bytes of a bundle folder's ``manifest.json``, for ``parse_manifest``.

    Raises:
        UserError: no bundle there, or not a plain file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such bundle folder")
    path = folder / FILE_NAME
    if not os.path.lexists(path):
        raise UserError(
            f"{folder}: not a bundle, it has no {FILE_NAME}; make one with: fbkit export RUN --target onnx --out BUNDLE"
        )
    return read_plain(path, MAX_JSON_BYTES)


def parse_manifest(data: bytes, path: Path) -> Manifest:
    """Check a manifest's bytes; ``path`` is for messages.

    Raises:
        UserError: not JSON, a version this fbkit does not read, or a field that is missing or impossible.
    """
    top = Fields(path, "", parse_json(data, path))
    if top.value("schema") != SCHEMA:
        raise top.error("schema", f"must be {SCHEMA!r}")
    version = top.integer("version", 1, 10**6)
    if version > VERSION:
        raise top.error(
            "version", f"is {version}, this fbkit reads versions up to {VERSION}; upgrade fbkit to open this bundle"
        )
    size = top.section("input")
    channels = size.integer("channels", 1, 3)
    if channels == 2:
        raise size.error("channels", "must be 1 (grey) or 3 (RGB)")
    body, step, probe = top.section("body"), top.section("head_step"), top.section("probe")
    classes = parse_classes(top)
    manifest = Manifest(
        version=version,
        target=top.choice("target", TARGETS),
        precision=top.choice("precision", PRECISIONS),
        classes=classes,
        input=InputSpec(
            channels=channels,
            height=size.integer("height", 1, MAX_SIDE),
            width=size.integer("width", 1, MAX_SIDE),
            mean=size.numbers("mean", channels),
            std=size.numbers("std", channels, above=LEAST_STD),
        ),
        features=top.integer("features", 1, _MAX_FEATURES),
        body=body.text("file"),
        body_batches=tuple(sorted(body.integers("batch_sizes", 1, MAX_SIDE))),
        head=top.section("head").text("file"),
        head_step=step.text("file"),
        step_batch=step.integer("batch_size", 1, MAX_SIDE),
        step_classes=step.integer("classes", len(classes), MAX_CLASSES) if version > 1 else len(classes),
        probe=probe.text("file"),
        feature_tolerance=probe.number("tolerance", above=0.0),
        files=_files(top.section("files")),
        provenance=top.section("provenance").values,
        verification=top.section("verification").values,
        graph=top.section("graph").values if version > 1 else {},
        personalization=_defaults(top.section("personalization")) if version > 1 else Defaults(),
        model=_optional_file(top, "model"),
        training_module=_optional_file(top, "training_module"),
    )
    if manifest.feature_tolerance > _MAX_TOLERANCE[manifest.precision]:
        raise probe.error("tolerance", f"must be at most {_MAX_TOLERANCE[manifest.precision]:g}")
    if manifest.target == "onnx" and manifest.body_batches:
        raise body.error("batch_sizes", "must be empty for onnx, whose body takes any batch")
    if manifest.target == "executorch" and (not manifest.body_batches or manifest.body_batches[0] != 1):
        raise body.error("batch_sizes", "must hold 1")
    if len(set(manifest.body_batches)) < len(manifest.body_batches):
        raise body.error("batch_sizes", "holds a number twice")
    named = (manifest.body, manifest.head, manifest.head_step, manifest.probe)
    for name in (*named, *filter(None, (manifest.model, manifest.training_module))):
        if name not in manifest.files:
            raise top.error("files", f"lacks {name}")
    return manifest


def _optional_file(top: Fields, key: str) -> str | None:
    return top.section(key).text("file") if key in top.values else None


def _defaults(section: Fields) -> Defaults:
    momentum = section.number("momentum")
    if not 0 <= momentum < 1:
        raise section.error("momentum", "must be at least 0 and below 1")
    return Defaults(
        epochs=section.integer("epochs", 1, _MAX_EPOCHS),
        lr=section.number("lr", above=0.0),
        momentum=momentum,
        batch_size=section.integer("batch_size", 1, 1_000_000),
        penalty=section.number("penalty", above=0.0),
    )


def parse_classes(top: Fields) -> tuple[str, ...]:
    """The names under ``classes``.

    Raises:
        UserError: they are not different names of folders.
    """
    classes = top.value("classes")
    if not isinstance(classes, list) or not 2 <= len(classes) <= MAX_CLASSES:
        raise top.error("classes", f"must be a list of 2 to {MAX_CLASSES} names")
    for name in classes:
        if not is_class_name(name):
            raise top.error("classes", f"holds {str(name)[:50]!r}, which cannot name a folder")
    if len(set(classes)) != len(classes):
        raise top.error("classes", "holds a name twice")
    return tuple(classes)


def is_class_name(name: object) -> bool:
    """Whether a class can be called so: a folder of pictures has its name."""
    return isinstance(name, str) and 0 < len(name) <= 200 and "/" not in name and name[0] != "." and name.isprintable()


def _files(section: Fields) -> dict[str, FileEntry]:
    files = {}
    for name in section.values:
        if not _PLAIN_NAME.fullmatch(name) or name in (FILE_NAME, SIGNATURE_NAME):
            raise section.error(name[:70], "is not a plain file name")
        entry = section.section(name)
        digest = entry.text("sha256")
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise entry.error("sha256", "must be 64 hexadecimal digits")
        files[name] = FileEntry(entry.integer("bytes", 1, _MAX_FILE_BYTES), digest)
    return files
