"""The layout rules: who may import whom, links that stay links, a wheel without them."""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("train", "export", "device_runtime", "benchmarks")
MAY_IMPORT = {
    "device_runtime": set(),
    "train": {"device_runtime"},
    "export": {"device_runtime", "train"},
    "benchmarks": {"device_runtime", "train", "export"},
}
NEEDS_TORCH = {"torch", "torchvision", "torchao", "executorch"}


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, wherever in the file the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written with their full name"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_the_parts_below_it(part: str) -> None:
    forbidden = set(PARTS) - MAY_IMPORT[part] - {part}
    for path in (ROOT / part).rglob("*.py"):
        for module in imports_of(path):
            assert not any(module.startswith(f"fbkit.{other}") for other in forbidden), f"{path} imports {module}"


def test_training_takes_from_the_device_only_how_pictures_are_read() -> None:
    for path in (ROOT / "train").rglob("*.py"):
        taken = {module for module in imports_of(path) if module.startswith("fbkit.device_runtime")}
        assert all(module.startswith("fbkit.device_runtime.pictures") for module in taken), path


def test_the_device_needs_torch_only_in_the_official_executorch_adapter() -> None:
    for path in (ROOT / "device_runtime").rglob("*.py"):
        heavy = {module.split(".")[0] for module in imports_of(path)} & NEEDS_TORCH
        assert not heavy or path.name == "executorch_official.py", f"{path} imports {heavy}"


def test_the_parts_are_links_in_the_package() -> None:
    for part in PARTS:
        link = ROOT / "src" / "fbkit" / part
        assert link.is_symlink()
        assert link.resolve() == ROOT / part


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = "import sys, fbkit.cli; print(sorted({'torch', 'numpy', 'onnxruntime', 'matplotlib'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return out


def test_the_wheel_holds_every_part_and_no_link(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        links = [entry.filename for entry in archive.infolist() if (entry.external_attr >> 16) & 0o170000 == 0o120000]
    assert not links
    for needed in (
        "fbkit/cli.py",
        "fbkit/train/recipes/fashion-mnist.toml",
        "fbkit/train/embedded/fashion-mnist-10k.npz",
        "fbkit/train/embedded/LICENSE-fashion-mnist.txt",
        "fbkit/train/algorithms/fedbabu.py",
        "fbkit/export/exporting.py",
        "fbkit/device_runtime/demo/bundle/body.onnx",
        "fbkit/device_runtime/commands/personalize.py",
        "fbkit/device_runtime/studio/page/index.html",
        "fbkit/device_runtime/studio/page/studio.css",
        "fbkit/device_runtime/studio/page/studio.js",
        "fbkit/benchmarks/templates/demo.html",
    ):
        assert needed in names
    assert not any(name.startswith(("train/", "tests/")) for name in names)


def test_the_sdist_builds_the_same_wheel(distributions: Path, tmp_path: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, capture_output=True, check=True)
    (again,) = tmp_path.glob("*.whl")
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(again) as first, zipfile.ZipFile(wheel) as second:
        assert set(first.namelist()) == set(second.namelist())
