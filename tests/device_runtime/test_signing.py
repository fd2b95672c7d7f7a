"""Keys, signatures, and devices that ask for one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from fbkit.device_runtime import Bundle
from fbkit.device_runtime.demo import FOLDER
from fbkit.device_runtime.signing import make_keys, sign_bundle
from fbkit.errors import UserError
from tests.conftest import Outcome
from tests.device_runtime.mutations import part, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "bundle", tmp_path / "bundle"))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_keys(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_name("key.pub")


def refused(folder: Path, public: Path) -> str:
    with pytest.raises(UserError) as caught:
        Bundle.open(folder, signed_by=public)
    return str(caught.value)


def test_keygen_makes_a_pair_and_overwrites_nothing(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    key, public = tmp_path / "key", tmp_path / "key.pub"
    assert fbkit("keygen", key).code == 0
    assert key.stat().st_mode & 0o777 == 0o600
    private = load_pem_private_key(key.read_bytes(), password=None)
    expected = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert public.read_bytes() == expected
    before = key.read_bytes()
    assert "key: exists already" in fbkit("keygen", key).err
    key.unlink()
    assert "key.pub: exists already" in fbkit("keygen", key).err
    assert not key.exists()
    assert public.read_bytes() == expected
    public.unlink()
    fbkit("keygen", key)
    assert key.read_bytes() != before


def test_a_signed_bundle_opens_for_whoever_asks_for_that_signature(
    folder: Path, key: Path, public: Path, fbkit: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fbkit("sign", folder, "--key", key).code == 0
    assert fbkit("check", folder, "--signed-by", public).code == 0
    assert fbkit("check", folder).code == 0
    monkeypatch.setenv("FBKIT_SIGNED_BY", str(public))
    assert fbkit("check", folder).code == 0
    (folder / "signature.json").unlink()
    outcome = fbkit("check", folder)
    assert outcome.code == 2
    assert outcome.err.startswith(f"fbkit: {folder / 'signature.json'}: is missing, and the bundle must be signed by")


@pytest.mark.parametrize("command", ["check", "personalize", "predict", "evaluate"])
def test_every_command_that_opens_a_bundle_can_ask_for_a_signature(
    folder: Path, public: Path, command: str, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    pictures = FOLDER / "pictures" / "test"
    given: dict[str, list[str | Path]] = {
        "check": [],
        "personalize": [pictures, "--profile", tmp_path / "profile"],
        "predict": [*sorted(pictures.rglob("*.png"))[:1]],
        "evaluate": [pictures],
    }
    data = given[command]
    assert fbkit(command, folder, *data).code == 0
    outcome = fbkit(command, folder, *data, "--signed-by", public)
    assert (outcome.code, outcome.out) == (2, "")
    assert "signature.json: is missing" in outcome.err


def test_the_signature_is_of_the_documented_bytes(folder: Path, key: Path, public: Path) -> None:
    value = json.loads(sign_bundle(folder, key).read_bytes())
    assert (value["schema"], value["version"]) == ("fbkit.signature", 1)
    known = load_pem_public_key(public.read_bytes())
    assert bytes.fromhex(value["public_key"]) == known.public_bytes(Encoding.Raw, PublicFormat.Raw)
    signed = b"fbkit bundle signature 1\n" + (folder / "manifest.json").read_bytes()
    known.verify(bytes.fromhex(value["signature"]), signed)  # type: ignore[union-attr,call-arg]


def test_openssl_agrees(folder: Path, key: Path, public: Path, tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs the program openssl")
    value = json.loads(sign_bundle(folder, key).read_bytes())
    (tmp_path / "signed").write_bytes(b"fbkit bundle signature 1\n" + (folder / "manifest.json").read_bytes())
    (tmp_path / "signature").write_bytes(bytes.fromhex(value["signature"]))
    command: list[str | Path] = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        public,
        "-rawin",
        "-in",
        tmp_path / "signed",
    ]
    subprocess.run([*command, "-sigfile", tmp_path / "signature"], check=True, capture_output=True)


def test_a_signature_by_another_key_is_none(folder: Path, public: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "other")
    sign_bundle(folder, tmp_path / "other")
    assert f"signature.json: the bundle is signed with another key than {public}" in refused(folder, public)
    # Claiming the trusted key does not help.
    path = folder / "signature.json"
    value = json.loads(path.read_text())
    trusted = load_pem_public_key(public.read_bytes()).public_bytes(Encoding.Raw, PublicFormat.Raw)
    path.write_text(json.dumps(value | {"public_key": trusted.hex()}))
    assert "signature.json: is not a signature of this manifest.json" in refused(folder, public)


def other_weights(folder: Path) -> None:
    """What only a signature can tell: a whole and consistent bundle of somebody else's making."""
    shutil.copy(part(folder, "head"), part(folder, "body"))
    seal(folder)


def a_space_more(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize("change", [other_weights, a_space_more])
def test_an_altered_manifest_is_refused_before_anything_in_it_is_read(
    folder: Path, key: Path, public: Path, change: Callable[[Path], None]
) -> None:
    sign_bundle(folder, key)
    change(folder)
    assert "signature.json: is not a signature of this manifest.json" in refused(folder, public)


def test_an_altered_file_is_refused_though_the_manifest_is_signed(folder: Path, key: Path, public: Path) -> None:
    sign_bundle(folder, key)
    path = part(folder, "body")
    path.write_bytes(path.read_bytes() + b"\0")
    assert "body.onnx: has more than" in refused(folder, public)


def test_what_is_broken_is_not_signed(folder: Path, key: Path) -> None:
    path = part(folder, "head_step")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match=r"head_step\.onnx: was altered"):
        sign_bundle(folder, key)
    assert not (folder / "signature.json").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not readable as JSON"),
        (b"[1]", "expected a JSON object"),
        (b"{}", "not a signature of version 1"),
        (b'{"schema": "fbkit.signature", "version": 2}', "not a signature of version 1"),
        (b'{"schema": "fbkit.signature", "version": 1}', "public_key must be 64 hexadecimal digits"),
        (b'{"schema": "fbkit.signature", "version": 1, "public_key": "0x"}', "public_key must be 64"),
        (b" " * 20_000, "larger than 10000 bytes"),
        (b'{"a":' * 1500, "not readable as JSON"),
    ],
)
def test_a_file_that_is_no_signature_is_refused(folder: Path, public: Path, content: bytes, said: str) -> None:
    (folder / "signature.json").write_bytes(content)
    assert f"{folder / 'signature.json'}: {said}" in refused(folder, public)
    Bundle.open(folder)  # who asks for no signature does not look at it


def test_a_signature_that_is_a_link_is_refused(folder: Path, key: Path, public: Path) -> None:
    path = sign_bundle(folder, key)
    path.symlink_to(path.rename(folder.parent / "elsewhere"))
    assert "signature.json: not a plain file" in refused(folder, public)


def test_keys_that_are_none_are_named(folder: Path, key: Path, public: Path, tmp_path: Path) -> None:
    private_key = load_pem_private_key(key.read_bytes(), password=None)
    locked, other = tmp_path / "locked", tmp_path / "rsa"
    locked.write_bytes(private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  it protects nothing
    other.write_bytes(rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for wrong, said in (
        (tmp_path / "none", "cannot be read (No such file"),
        (folder / "manifest.json", "not a private key in PEM"),
        (public, "not a private key in PEM"),
        (locked, "not a private key in PEM, or one with a password"),
        (other, "not an Ed25519 key"),
    ):
        with pytest.raises(UserError) as caught:
            sign_bundle(folder, wrong)
        assert f"{wrong}: {said}" in str(caught.value)
    assert f"{key}: not a public key in PEM" in refused(folder, key)
    assert not (folder / "signature.json").exists()


def test_without_the_package_a_bundle_that_must_be_signed_is_refused(folder: Path, key: Path, public: Path) -> None:
    sign_bundle(folder, key)
    code = "import sys; sys.modules['cryptography'] = None; from fbkit.cli import main; main()"
    for arguments in (("check", folder, "--signed-by", public), ("sign", folder, "--key", key), ("keygen", "x")):
        ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "pip install 'fbkit[sign]'" in ended.stderr
        assert ended.stderr.count("\n") == 1
    ended = subprocess.run([sys.executable, "-c", code, "check", folder], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
