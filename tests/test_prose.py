"""Docstrings, comments, messages, pages and presets are plain American English; CONTRIBUTING.md says what that means.

Each rule is a pattern and what to write instead. Text in backticks is code and is not checked.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

UNITS = (
    "trial|report|image|task|cell|seed|phase|run|point|curve|study|step|class|event|metric|op|worker|node|call|batch"
    "|configuration|data set|design|encoder|stage|layer|key|line|section|verdict|label|patch|pixel|sample|epoch"
)
NOUN = r"(?!(?:of|in|on|at|by|or|for|with|as|over|is|runs?|needs?|takes?|gives?|has|have|than|that|to|and)\b)\w+ "
NUMBER = r"one|two|three|four|five|ten|\d[\d.,]*"
AMOUNTS = "seconds|ms|kB|MB|GB|bytes|images|reports|metrics|trials|steps|rows|calls|pairs|files|lines|points|seeds"

PHRASES = {
    r"\b(?:of|for|as|from|than|by|with|and|or|is) who\b|\bwhoever\b|(?:^|[.;:!?] )Who (?!\w+ \w*.{0,60}\?)"
    r"|\bwho (?:has|judges|asks|reads|needs|wants)\b": "name the person or the part: 'users without ...', 'the caller'",
    r"\bof which\b": "'whose', 'including', or a second sentence",
    r"\btold\b(?! apart)|\btell(?:s|ing)? of\b": "'reported', 'shown', 'given', 'describes'",
    r"\bh(?:eld|olds?|olding) (?:\S+ ){0,4}against\b": "'compared with'",
    r"\bst(?:ands?|anding|ood) (?:in|beside|for|behind|there)\b": "'is in', 'is shown next to', 'means'",
    r"\bl(?:ies?|ying|ay) (?:in|beside|there)\b": "'is in', 'is next to'",
    r"\bgo(?:es|ing|ne)? on\b|\bwent on\b": "'continues', 'resumes'",
    r"\bmend(?:s|ed|ing)?\b": "'fix', 'correct', 'recover'",
    r"\bmeanwhile\b": "'while ...', 'during ...'",
    r"(?<!there )(?<!re )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|fewer\b|larger\b|smaller\b|better\b"
    r"|worse\b|higher\b|lower\b|faster\b|slower\b|older\b|shorter\b|greater\b|wider\b)\w": "'is not a ...'",
    r"\b(?:what|how much) (?:\w+ ){1,4}(?:is|are|was|were) worth\b|\b(?:is|are) worth to\b": "name the quantity",
    r"\bthat of\b": "repeat the noun: 'than the baseline's error'",
    r"\bh(?:olds?|eld|olding) (?:\S+ ){1,4}to (?:that|this|it|the same|its|their|those)\b": "'checks', 'requires'",
    r"\blooks? of\b": "'appearance', or say what is set",
    r"\bjudg(?:e|es|ed|ing)\b": "'evaluated', 'classified', 'assessed'",
    r"\ba course\b|\bcourses\b": "'a trajectory', 'a curve'",
    r"\d %(?![\w(])": "'95%', without a space",
    rf"\b(?:(?:{NUMBER}) {NOUN}(?:{NOUN})?|(?:{AMOUNTS}) )an? (?:{UNITS})\b(?! (?:of|that|is|has|was|may|with)\b)": (
        "'per trial', 'for each image'"
    ),
    r"\bwhat (?:a|an|the) \w+ (?:must|may|can) (?:be|hold) beyond\b": "name the check",
}
COMMENTS = {r"^(?:of|that|which|from which|of whom|in which|by which|after which|until which)\b": "a whole phrase"}

VERBS = (
    "optim|initial|normal|regular|standard|memor|random|serial|visual|summar|recogn|organ|minim|maxim|general|penal|util"
    "|real|character|categor|synchron|special|binar|quant|token|vector|parallel|local|final|factor|parameter|custom|stabil"
)
BRITISH = {
    r"colour": "color",
    r"\bgrey|greyscale|_grey|grey_": "gray",
    r"\bcentre|_centre|centred\b": "center",
    r"behaviour": "behavior",
    r"neighbour": "neighbor",
    r"favour|honour\b|honoured": "favor, honor",
    r"labell(?:ed|ing)": "labeled",
    r"modell(?:ed|ing)|travell(?:ed|ing)|cancell(?:ed|ing)\b|signall(?:ed|ing)": "one l",
    rf"\b(?:\w*_|un|re|de)?(?:{VERBS})is(?:e|es|ed|er|ers|ing|ation|ations|able)\b": "-ize",
    r"\banalys(?:ed|ing|er)\b|\banalyse\b": "analyze",
    r"\blicence": "license",
    r"\bcatalogue|\bartefact|\bjudgement|\bdefence\b|\bfibre\b|\bmetres?\b": "catalog, artifact, judgment, ...",
    r"\bwhilst\b|\bamongst\b|\blearnt\b": "while, among, learned",
}
SPELLING_EXEMPT = {
    "CHANGELOG.md",
    "tests/test_prose.py",
    "trainables/spelling.py",
    "tests/trainables/test_spelling.py",
    "tests/study/config/test_former_names.py",
    "tests/study/execution/test_journal.py",
    "tests/study/test_former_versions.py",
}

PACKAGES = ("study", "analysis", "trainables", "search_spaces")
PAGES = (
    "*.md",
    "docs/*.md",
    "docs/*.py",
    "mkdocs.yml",
    ".github/**/*.md",
    "cluster.yaml",
    "clusters/*",
    "CITATION.cff",
    "pyproject.toml",
    "Makefile",
)
INSIDE = ("**/*.py", "**/*.yaml", "**/*.j2", "**/*.css", "**/*.ipynb")


def found(patterns: tuple[str, ...], below: Path = REPOSITORY) -> list[Path]:
    return sorted(path for pattern in patterns for path in below.glob(pattern) if path.is_file())


FILES = found(PAGES) + [path for package in PACKAGES for path in found(INSIDE, REPOSITORY / package)]
TESTS = found(("tests/**/*.py",))


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(REPOSITORY).as_posix() for path in paths]


def python_texts(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield line, text and whether it is a comment: strings of a module (docstrings and messages), and its comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield node.lineno, "".join(map(str, parts)), False
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value, False
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, alone = token.start[0], not token.line[: token.start[1]].strip()
        if block and not (alone and line == last + 1):  # comments on lines of their own that follow each other are one
            yield start, " ".join(block), True
            block = []
        start = start if block else line
        block.append(token.string.lstrip("#: "))
        last = line if alone else -1
    if block:
        yield start, " ".join(block), True


def texts(path: Path) -> Iterator[tuple[int, str, bool]]:
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from python_texts(source)
    elif path.suffix == ".ipynb":
        for number, cell in enumerate(json.loads(source)["cells"], 1):
            if cell["cell_type"] == "markdown":
                yield number, "".join(cell["source"]), False
            else:
                yield from ((number, text, comment) for _, text, comment in python_texts("".join(cell["source"])))
    else:  # paragraphs, of YAML and templates, too
        line = 1
        for paragraph in re.split(r"(\n\s*\n)", source):
            yield line, re.sub(r"\n\s*#+ ?", "\n", paragraph), False
            line += paragraph.count("\n")


def complaints(rules: dict[str, str], line: int, text: str) -> list[str]:
    plain = re.sub(r"\s+", " ", re.sub(r"`[^`]*`", "`code`", text)).strip()
    return [
        f"{line}: ...{plain[max(match.start() - 40, 0) : match.end() + 30]}...  -> {instead}"
        for pattern, instead in rules.items()
        for match in re.finditer(pattern, plain)
    ]


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_prose_is_plain(path: Path):
    problems = []
    for line, text, comment in texts(path):
        problems += complaints(PHRASES, line, text) + (complaints(COMMENTS, line, text) if comment else [])
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.mark.parametrize("path", FILES + TESTS, ids=names(FILES + TESTS))
def test_spelling_is_american(path: Path):
    if path.relative_to(REPOSITORY).as_posix() in SPELLING_EXEMPT:
        pytest.skip("names the former spelling")
    lines = path.read_text(encoding="utf-8").splitlines()
    problems = [
        f"{number}: {match[0]} -> {instead}"
        for number, line in enumerate(lines, 1)
        for pattern, instead in BRITISH.items()
        for match in re.finditer(pattern, line, re.IGNORECASE)
    ]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.mark.parametrize(
    "text",
    [
        "for who has no network",
        "one row a trial",
        "a plan of which a part failed",
        "the journal goes on",
        "This is no study.",
        "numbers held against chance",
    ],
)
def test_a_banned_phrase_is_found(text: str):
    assert complaints(PHRASES, 1, text)


@pytest.mark.parametrize("text", ["users who have labels", "there is no label", "is no longer read", "one image"])
def test_plain_text_passes(text: str):
    assert not complaints(PHRASES, 1, text)
