"""Curves that were measured, kept by what they depend on: a file for each bundle and client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from fbkit.benchmarks.clients import ClientFolder
from fbkit.benchmarks.convergence.result import Curve, refuse_impossible
from fbkit.benchmarks.typed import read_as
from fbkit.errors import UserError
from fbkit.files import read_json, sha256_bytes, sha256_file, write_json

MEASURE_VERSION = 1  # count it up when the same bundle and pictures give other curves


@dataclass(frozen=True)
class Kept:
    """The file of one bundle on one runtime and one client."""

    path: Path

    def read(self) -> dict[tuple[str, int], Curve]:
        """By solver and number of pictures.

        Raises:
            UserError: the file is damaged.
        """
        if not self.path.exists():
            return {}
        try:
            values = read_json(self.path).get("curves")
            curves = read_as(tuple[Curve, ...], values, f"{self.path}: curves")
            for curve in curves:
                refuse_impossible(curve, 1, str(self.path))
        except UserError as error:
            raise UserError(f"{error}; remove the file, and the same command measures it again") from error
        return {(curve.solver, curve.per_class): curve for curve in curves}

    def add(self, curves: Iterable[Curve]) -> None:
        together = self.read() | {(curve.solver, curve.per_class): curve for curve in curves}
        write_json(self.path, {"curves": [asdict(curve) for curve in together.values()]}, compact=True)


def kept(out: Path, digest: str, runtime: str, machine: str, pictures: str, epochs: int | None) -> Kept:
    """Where curves of this bundle, runtime, processor, client's pictures and number of epochs are."""
    key = f"{MEASURE_VERSION}\n{digest}\n{runtime}\n{machine}\n{pictures}\n{epochs}"
    return Kept(out / "curves" / f"{sha256_bytes(key.encode())[:24]}.json")


def digest_of(client: ClientFolder) -> str:
    """Of names and pictures."""
    lines = [client.name]
    for part in (client.train, client.test):
        paths = sorted(path for path in part.glob("*/*") if path.is_file())
        lines += [f"{path.relative_to(part.parent)} {sha256_file(path)}" for path in paths]
    return sha256_bytes("\n".join(lines).encode())
