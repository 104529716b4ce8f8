"""Code blocks of the Markdown pages, and how each of them is tested.

A block of bash, yaml or python is tested as it stands. A comment in the line above it, which no reader sees, changes
that and gives the reason:

    <!-- test: add --dry-run; a search takes half an hour -->      options for each command that runs a study
    <!-- test: parse; needs an AWS account -->                     commands are parsed, and not run

A block with a title (```yaml title="photos.yaml") is a file that the page's commands may name; it is not run by
itself. A block of text
is output or a drawing, and is not tested.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
LANGUAGES = ("bash", "yaml", "python", "text")
_BLOCK = re.compile(
    r"""(?:^[ ]*<!--[ ]test:[ ](?P<note>[^\n]*)[ ]-->\n+)?
        ^(?P<indent>[ ]*)```(?P<language>\w*)(?:[ ]title="(?P<title>[^"]+)")?\n
        (?P<text>.*?)
        ^[ ]*```$""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of code.

    Attributes:
        page: The Markdown file.
        line: Line of its first fence.
        language: The word after the fence.
        title: File name that the block shows, or empty.
        text: Its lines, without the indentation of a list that they are part of.
        note: What the comment above says, or empty.
    """

    page: Path
    line: int
    language: str
    title: str
    text: str
    note: str

    @property
    def is_file(self) -> bool:
        """Whether the block shows a file, by its title."""
        return bool(self.title)

    @property
    def is_only_parsed(self) -> bool:
        """Whether its commands are not run."""
        return self.note.startswith("parse; ")

    @property
    def added_options(self) -> str:
        """Options to add to each command that runs a study."""
        return self.note.removeprefix("add ").partition("; ")[0] if self.note.startswith("add ") else ""

    @property
    def commands(self) -> list[str]:
        """The command lines, each continued line as one."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]

    @property
    def script(self) -> str:
        """The block as the tests run it: with the added options."""
        if not self.added_options:
            return self.text
        return re.sub(r"^(\S*python \S*study/run\.py) ", rf"\1 {self.added_options} ", self.text, flags=re.M)

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def all_blocks(page: Path) -> list[Block]:
    """Return all code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        content = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        blocks.append(Block(page, line, match["language"], match["title"] or "", content, match["note"] or ""))
    return blocks


def blocks(page: Path, language: str) -> list[str]:
    """Return the text of a page's blocks in a language."""
    return [block.text for block in all_blocks(page) if block.language == language]


def commands(page: Path) -> list[str]:
    """Return the command lines in a page's blocks of bash, each continued line as one."""
    return [line for block in all_blocks(page) if block.language == "bash" for line in block.commands]


def plugin_of_the_page(folder: Path) -> Path:
    """Write the plug-in that docs/extending.md shows, a task, an encoder and an op, to a folder; return its path."""
    (block,) = (each for each in all_blocks(REPOSITORY / "docs" / "extending.md") if each.title == "my_task.py")
    path = folder / block.title
    path.write_text(block.text, encoding="utf-8")
    return path
