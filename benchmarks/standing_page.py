"""Put a report's findings, pictures and tables into docs/benchmarks.md, between its marks.

python benchmarks/standing_page.py REPORT docs/benchmarks.md
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

BEGIN, END = "<!-- made by make benchmarks: begin -->", "<!-- end -->"


def put_in(report: Path, page: Path) -> None:
    """Replace what stands between the marks; the pictures go into a folder named as the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        sys.exit(f"{page}: lacks the lines {BEGIN} and {END}")
    text = (report / "report.md").read_text()
    pictures = page.with_suffix("")
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        shutil.copyfile(report / name, pictures / name)
    text = re.sub(r"\]\(([\w-]+\.png)\)", rf"]({pictures.name}/\1)", text)
    text = re.sub(r" \(\[CSV\]\([^)]*\)\):", ":", text)  # the tables are in results/ as JSON, whole
    page.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}")


if __name__ == "__main__":
    put_in(Path(sys.argv[1]), Path(sys.argv[2]))
