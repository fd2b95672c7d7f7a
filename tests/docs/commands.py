"""The commands that documents show, and the command line that they must fit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from fbkit.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*/*.md")]
)
PAGES.remove(ROOT / "docs" / "commands.md")  # made from the command line itself

_CALL = re.compile(r"^(?:\$ )?(?:(?:\w+=\S+ )*(?:[\w.~/-]*/)?fbkit|.* -m fbkit) (?P<rest>.+)$")
_ENDS = re.compile(r"\s(?:#|\|\|?|&&|;|>|2>|&)\s?.*$")
NO_COMMANDS = {"fbkit bundle signature 1"}  # what signed bytes begin with
_INLINE = re.compile(r"`(fbkit [^`]+)`")


@dataclass(frozen=True)
class Shown:
    """A command in a document; ``words`` come after "fbkit"."""

    page: Path
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: fbkit {shlex.join(self.words)}"


def commands_in(page: Path) -> Iterator[Shown]:
    """Those in code blocks, as they are to be typed."""
    lines = page.read_text().splitlines()
    fenced, number = False, 0
    while number < len(lines):
        line, first = lines[number], number + 1
        number += 1
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        if not (fenced or line.startswith("    ")):
            continue
        while line.endswith("\\") and number < len(lines):
            line = line[:-1] + " " + lines[number].strip()
            number += 1
        for statement in re.split(r"\s&&\s", line.strip()):
            found = _CALL.match(statement)
            if found:
                yield Shown(page, first, tuple(shlex.split(_ENDS.sub("", found["rest"]))))


def synopses_in(page: Path) -> Iterator[Shown]:
    """Those in the text and in tables, which may name what they leave open."""
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        for found in set(_INLINE.findall(line)) - NO_COMMANDS:
            yield Shown(page, number, tuple(found.replace("\\|", "|").split()[1:]))


def parse(words: tuple[str, ...]) -> None:
    """Parse as the command line does, without running anything; raise what it raises for what it does not take."""
    command: Any = typer.main.get_command(app)
    name, rest, context = "fbkit", list(words), None
    while True:
        try:
            context = command.make_context(name, rest, parent=context)
        except Exception as error:
            if type(error).__name__ == "Exit":  # of --version and --help
                return
            raise
        if not hasattr(command, "commands"):
            return
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def unknown_in(words: tuple[str, ...]) -> list[str]:
    """Of a synopsis: commands and options that there are not."""
    command: Any = typer.main.get_command(app)
    places = [command]
    for position, word in enumerate(words):
        if not all(hasattr(each, "commands") for each in places):
            break
        names = re.sub(r"[^\w|-]", "", word).split("|")
        if not names[0] or word[0] in "-[." or word.isupper():
            break
        missing = [name for name in names if not all(name in each.commands for each in places)]
        if missing:
            return [f"{name!r} at word {position + 1}" for name in missing]
        places = [each.commands[name] for each in places for name in names]
    known = {option for each in places for parameter in each.params for option in parameter.opts}
    known |= {"--help", "--version", "--debug"}
    return [option for option in re.findall(r"--[a-z][a-z-]*", " ".join(words)) if option not in known]
