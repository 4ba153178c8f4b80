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


TOPICS = (
    Topic("tables", "What items, events and further tables hold, and where they may lie.", "features", "Your tables"),
    Topic(
        "timeline",
        "Blocks, validation, test: who learns from which days, and why.",
        "encoders",
        "Training, block by block",
    ),
    Topic("requests", "What one ranking question is, with or without logged lists.", "features", "Requests"),
    Topic("labels", "Which events count as right answers, and how much.", "features", "Labels"),
    Topic("candidates", "Which items are ranked at all: the generators, and the cut.", "features", "Candidates"),
    Topic("features", "What the ranker knows of a candidate: the families of features.", "features", "Features"),
    Topic("extend", "A family, generator or signal of your own.", "features", "Add a family, a generator or a signal"),
    Topic("encoder", "Which language models load, and how they read your texts.", "encoders", "Which models load"),
    Topic("headlines", "Which text is clicked more: a model without users.", "encoders", "Headlines: the click model"),
    Topic(
        "ranker",
        "Trees and a network: what orders the candidates.",
        "ranker",
        "The default ranker: trees and a network",
    ),
    Topic("metrics", "What NDCG and the other figures mean here.", "ranker", "Metrics, and what they mean here"),
    Topic("low-ndcg", "Why NDCG may be low, and which command shows each cause.", "ranker", "Why is my NDCG low?"),
    Topic("comparison", "When one system is better than another.", "ranker", "Is one better? Paired comparison"),
    Topic("promotion", "Champion and challenger, gates, going back.", "pipelines", "Promotion and the registry"),
    Topic("night", "Publishing every night: cron, systemd, reruns.", "pipelines", "Every night"),
    Topic("reading", "How people, programs and watchdogs read what is live.", "pipelines", "Reading the rankings"),
    Topic("monitoring", "How good past nights were, what drifts, metrics and a page.", "pipelines", "Monitoring"),
    Topic("going-back", "Making an earlier day's rankings live again.", "pipelines", "Going back"),
    Topic("files", "What lies where below `output`.", "pipelines", "Files on disk"),
    Topic("exit-codes", "What each exit code means, and what to do.", "pipelines", "Exit codes"),
    Topic("memory", "How much memory is needed, and how to bound it.", "pipelines", "Memory"),
    Topic("recovery", "What happens after a kill.", "pipelines", "Recovery after a kill"),
    Topic("continue", "Learning only what is new, from the champion on.", "pipelines", "Continuing a training"),
    Topic("mlflow", "Runs, versions and nights in MLflow, and serving.", "pipelines.registry", "MLflow"),
    Topic("backup", "The output folder and the registry in one file, and back.", "pipelines", "Backup"),
    Topic("privacy", "What leaves your machine.", "pipelines", "What leaves your machine"),
)


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
