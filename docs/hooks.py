"""What the site does with the pages before it makes HTML of them. They are read on their own, too, beside the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_OUTSIDE = re.compile(r"\[([^]]+)\]\((\.\./[^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Name files of the repository, which are no pages, by their paths; and bring in the changelog."""
    if page.file.src_uri == "changelog.md":
        return (ROOT / "CHANGELOG.md").read_text()

    def name_path(found: re.Match[str]) -> str:
        words, path = found[1], found[2].removeprefix("../")
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"docs/{page.file.src_uri} links {path}, which is not there")
        return f"`{path}`" if words.strip("`") in path else f"{words} (`{path}`)"

    return _OUTSIDE.sub(name_path, markdown)
