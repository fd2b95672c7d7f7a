"""A bundle's signature: it says whose bundle this is, where checksums only say that it is whole.

The file ``signature.json`` beside ``manifest.json`` is one JSON object:

    schema        "fbkit.signature"
    version       1
    public_key    the signer's Ed25519 public key (RFC 8032): 32 bytes as 64 lower-case hexadecimal digits
    signature     Ed25519 signature: 64 bytes as 128 lower-case hexadecimal digits

Signed are the 25 bytes ``fbkit bundle signature 1`` and a newline (0x0A), followed by all bytes of ``manifest.json``,
which holds the SHA-256 of every other file. The key in the file only tells whose signature it is: a device believes the
key that it was given, and no other. A version 2 would have another first line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbkit.device_runtime.manifest import FILE_NAME, SIGNATURE_NAME
from fbkit.errors import UserError, require
from fbkit.files import parse_json, read_plain

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SCHEMA = "fbkit.signature"
VERSION = 1
MAX_BYTES = 10_000

_ADVICE = "make a pair with: fbkit keygen KEY, which writes KEY and KEY.pub"
_SIGNED_FOR = b"fbkit bundle signature 1\n"  # a signature that the key made for anything else is none for a bundle


def make_signature(listed: bytes, key: Ed25519PrivateKey) -> bytes:
    """The bytes of ``signature.json`` for the bytes of ``manifest.json``."""
    value = {
        "schema": SCHEMA,
        "version": VERSION,
        "public_key": key.public_key().public_bytes_raw().hex(),
        "signature": key.sign(_SIGNED_FOR + listed).hex(),
    }
    return (json.dumps(value, indent=2) + "\n").encode()


def read_signature(folder: Path) -> bytes | None:
    """The bytes of a bundle's ``signature.json``, unchecked; None where there is none.

    Raises:
        UserError: it is not a plain file, or larger than a signature.
    """
    path = folder / SIGNATURE_NAME
    if not os.path.lexists(path):
        return None
    data = read_plain(path, MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES} bytes, so not a signature")
    return data


def check_signature(listed: bytes, signature: bytes | None, trusted: Path, folder: Path) -> None:
    """Check that a manifest was signed with the private half of a trusted key.

    Args:
        listed: the bytes of ``manifest.json``.
        signature: the bytes of ``signature.json``, None where there is none.
        trusted: the file of a public key.
        folder: the bundle, for messages.

    Raises:
        UserError: it was not, ``trusted`` holds no public Ed25519 key, or the extra ``sign`` is missing.
    """
    key = read_public_key(trusted)
    path = folder / SIGNATURE_NAME
    if signature is None:
        raise UserError(f"{path}: is missing, and the bundle must be signed by {trusted}; get a signed bundle")
    value = parse_json(signature, path)
    if (value.get("schema"), value.get("version")) != (SCHEMA, VERSION):
        raise UserError(f"{path}: not a signature of version {VERSION}, which this fbkit reads; upgrade fbkit")
    signer, signed = _bytes(value, "public_key", 32, path), _bytes(value, "signature", 64, path)
    if signer != key.public_bytes_raw():
        raise UserError(f"{path}: the bundle is signed with another key than {trusted}; do not use it")
    try:
        key.verify(signed, _SIGNED_FOR + listed)
    except Exception as error:
        raise UserError(
            f"{path}: is not a signature of this {FILE_NAME}, one of the two was altered; do not use the bundle"
        ) from error


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """A private key as ``fbkit keygen`` and OpenSSL write it: PKCS #8 in PEM, without a password.

    Raises:
        UserError: it is something else, or the extra ``sign`` is missing.
    """
    ed25519, serialization = cryptography_modules()
    key: Ed25519PrivateKey = _read_key(
        path, "private", ed25519.Ed25519PrivateKey, lambda data: serialization.load_pem_private_key(data, password=None)
    )
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """A public key as ``fbkit keygen`` and OpenSSL write it: SubjectPublicKeyInfo in PEM.

    Raises:
        UserError: it is something else, or the extra ``sign`` is missing.
    """
    ed25519, serialization = cryptography_modules()
    key: Ed25519PublicKey = _read_key(path, "public", ed25519.Ed25519PublicKey, serialization.load_pem_public_key)
    return key


def cryptography_modules() -> tuple[Any, Any]:
    """``ed25519`` and ``serialization`` of the package cryptography.

    Raises:
        UserError: the extra ``sign`` is missing.
    """
    home = "cryptography.hazmat.primitives"
    return require(f"{home}.asymmetric.ed25519", "sign"), require(f"{home}.serialization", "sign")


def _read_key(path: Path, half: str, kind: type[Any], load: Callable[[bytes], Any]) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        key = load(data)
    except Exception as error:  # which ones there are depends on what is in the file
        raise UserError(f"{path}: not a {half} key in PEM, or one with a password; {_ADVICE}") from error
    if not isinstance(key, kind):
        raise UserError(f"{path}: not an Ed25519 key; {_ADVICE}")
    return key


def _bytes(value: dict[str, Any], key: str, length: int, path: Path) -> bytes:
    text = value.get(key)
    if not isinstance(text, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * length}}}", text):
        raise UserError(f"{path}: {key} must be {2 * length} hexadecimal digits")
    return bytes.fromhex(text)
