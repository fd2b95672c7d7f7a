"""Making keys, and signing bundles with them. ``signature.py`` says what a signature is."""

from __future__ import annotations

import os
from pathlib import Path

from fbkit.device_runtime.bundle import read_contents
from fbkit.device_runtime.manifest import SIGNATURE_NAME
from fbkit.device_runtime.signature import cryptography_modules, make_signature, read_private_key
from fbkit.files import write_atomic, write_new


def make_keys(path: str | os.PathLike[str]) -> Path:
    """Make a private key in ``path``, for its owner alone to read, and its public half beside it.

    Returns:
        The public key's file: ``path`` with ``.pub`` added.

    Raises:
        UserError: one of the two exists or cannot be made, or the extra ``sign`` is missing.
    """
    ed25519, serialization = cryptography_modules()
    private_path = Path(path)
    public_path = private_path.with_name(f"{private_path.name}.pub")
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_new(private_path, private, private=True)
    try:
        write_new(public_path, public)
    except BaseException:
        private_path.unlink()
        raise
    return public_path


def sign_bundle(folder: str | os.PathLike[str], key: str | os.PathLike[str]) -> Path:
    """Sign a bundle whose files are all as its manifest says; a signature that is there is replaced.

    Nothing of the bundle is run: it is the caller who says that it is good.

    Returns:
        The signature's file.

    Raises:
        UserError: a file is missing or altered, ``key`` holds no private key, or the extra ``sign`` is missing.
    """
    private = read_private_key(Path(key))
    contents = read_contents(Path(folder))
    path = contents.folder / SIGNATURE_NAME
    write_atomic(path, make_signature(contents.listed, private))
    return path
