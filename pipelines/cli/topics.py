"""The topics of `nightrank help`: each is a section of a package's README, which the wheel carries."""

import re
from dataclasses import dataclass
from importlib.resources import files

from features.errors import IntegrityError

__all__ = ["TOPICS", "Topic", "section", "text_of"]


@dataclass(frozen=True, slots=True)
class Topic:
    """Something that a user may want to read about.

    Attributes:
        name: What it is called on the command line.
        line: What it is about.
        package: The package whose README holds the text.
        heading: The heading of its section there.
    """

    name: str
    line: str
    package: str
    heading: str


TOPICS: tuple[Topic, ...] = ()


def text_of(topic: Topic) -> str:
    """The text of a topic, in Markdown.

    Raises:
        IntegrityError: The installed package lacks its README, or the README the section.
    """
    readme = files(topic.package) / "README.md"
    text = section(readme.read_text(encoding="utf-8"), topic.heading) if readme.is_file() else None
    if text is None:
        raise IntegrityError(
            f"the installed {topic.package}/README.md has no section {topic.heading!r}. Install nightrank again."
        )
    return text


def section(markdown: str, heading: str) -> str | None:
    r"""A section of a Markdown text with its heading, up to the next one of the same level or above; None if missing.

    >>> section("# A\n## B\none\n### C\ntwo\n## D\n", "B")
    '## B\none\n### C\ntwo\n'
    """
    kept: list[str] = []
    level, is_code = 0, False
    for line in markdown.splitlines(keepends=True):
        is_code ^= line.lstrip().startswith("```")
        title = None if is_code else re.match(r"(#+) +(.*?) *#* *$", line)
        if level and title and len(title[1]) <= level:
            break
        if not level and title and title[2] == heading:
            level = len(title[1])
        if level and not line.startswith(("<!-- config:", "<!-- /config")):
            kept.append(line)
    return "".join(kept) if level else None
