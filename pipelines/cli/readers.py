"""The commands for what is published: read it, say how old it is, go back to an earlier date."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from features.errors import ConfigError, IntegrityError
from pipelines.cli.commands import Closing, command, next_command
from pipelines.cli.options import DEFAULT, ConfigPath, Overrides

__all__ = ["readers_app"]

readers_app = typer.Typer()
_PANEL = "Every night"
_HOURS = {"m": 1 / 60, "h": 1.0, "d": 24.0}
_SHOWN_ROWS = 50


@command(
    readers_app,
    ["nightrank status", "nightrank status --max-age 26h", "nightrank status --config shop/nightrank.yaml"],
    panel=_PANEL,
)
def status(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    max_age: Annotated[
        str, typer.Option("--max-age", help="End with 11 if the live date's cut-off lies further back: 26h, 90m, 2d.")
    ] = "",
) -> Closing:
    """Say which rankings are live, after verifying their files, and how old they are; 12 if they are damaged."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.live import refuse_old, standing

    most = _span(max_age) if max_age else None
    settings = load_config(config, overrides)
    facts = standing(Path(settings.output) / "rankings", settings.calendar, datetime.now(UTC))
    report.show("  ".join(f"{key}: {value}" for key, value in facts.items()))
    report.result(facts)
    if facts.get("damaged"):
        raise IntegrityError(f"{facts['damaged']} Meanwhile `nightrank read` serves {facts['live']}.")
    if most is not None:
        refuse_old(facts, most)
    if facts["live"] is None:
        return Closing("nothing is published yet", then=next_command("score --date DAY", config))
    return Closing(f"verified the published rankings of {facts['live']}", lies_in=facts["folder"])


@command(
    readers_app,
    [
        "nightrank read",
        "nightrank read --user 4711",
        "nightrank read --date 2024-05-01 --format csv",
        "nightrank read --to tonight.parquet",
    ],
    panel=_PANEL,
)
def read(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    when: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="The last good rankings of this day; else what is live."),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="One user's list; an unknown user's is the fallback.")
    ] = None,
    form: Annotated[
        Literal["table", "parquet", "csv", "jsonl"] | None,
        typer.Option("--format", help="By default what the name of --to says, or table."),
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The file to write; csv and jsonl else go to stdout.")] = None,
) -> Closing:
    """Read the published rankings: a table for people, or Parquet, CSV or JSON lines for programs."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.base.progress import say
    from pipelines.verbs.read import rankings_of, rankings_table, write_lists

    chosen = form or ("table" if to is None else to.suffix.removeprefix("."))
    root = Path(load_config(config, overrides).output) / "rankings"
    lists = rankings_of(root, None if when is None else when.date(), user)
    if lists.is_fallback:
        say(
            "this user has no list that night: these are the rows of the fallback list",
            date=str(lists.published.attempt.day),
        )
    if chosen != "table" or to is not None:
        write_lists(lists, chosen, to)
    else:
        report.show(rankings_table(lists, most=_SHOWN_ROWS))
    facts: dict[str, Any] = {
        "date": str(lists.published.attempt.day),
        "version": lists.published.manifest["version"],
        "rows": lists.rows,
        "fallback": lists.is_fallback,
        **({"damaged": lists.published.damage} if lists.published.damage else {}),
    }
    if chosen == "table" or to is not None:  # else stdout is the rows'
        report.result(facts)
    return Closing(f"read {lists.rows:,} rows of the rankings of {facts['date']}", lies_in=to)


@command(
    readers_app,
    [
        "nightrank live --set 2024-04-30 --reason 'the new range has wrong prices'",
        "nightrank live --set 2024-04-30 --force --reason 'thin, and better than the new range'",
    ],
    name="live",
    panel=_PANEL,
)
def live(
    config: ConfigPath = DEFAULT,
    *,
    when: Annotated[
        datetime, typer.Option("--set", formats=["%Y-%m-%d"], help="The day whose published rankings go live again.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal beside the rankings.")],
    force: Annotated[
        bool, typer.Option("--force", help="Although audits block these rankings, or never looked at them.")
    ] = False,
) -> Closing:
    """Go back to the rankings of another day, on purpose; the next night of a later day goes live as usual."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.stores.publish import live_day
    from pipelines.verbs.live import go_back

    if not reason.strip():
        raise ConfigError("--reason is for the journal, and says nothing. Write why the rankings go back.")
    output = Path(load_config(config).output)
    was = None
    with suppress(IntegrityError):  # a damaged pointer, which is replaced
        was = live_day(output / "rankings")
    attempt, moved = go_back(output, when.date(), reason=reason.strip(), although_blocked=force)
    report.result(
        {
            "live": str(attempt.day),
            "was": None if was is None else str(was),
            "pointer_moved": moved,
            "attempt": str(attempt.folder),
        }
    )
    verb = "put" if moved else "found"
    return Closing(
        f"{verb} the rankings of {attempt.day} live", lies_in=attempt.folder, then=next_command("status", config)
    )


@command(
    readers_app,
    ["nightrank prune", "nightrank prune --delete", "nightrank prune --keep 30 --delete"],
    panel=_PANEL,
)
def prune(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Good nights that stay.")] = 14,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; else it is only shown what would go.")] = False,
) -> Closing:
    """Remove nights that nothing needs any more, unused text vectors, and files that killed commands left.

    What stays: of each of the last good nights the attempt that was published last; what is live, or was within a day;
    what somebody went back to in the last two weeks; what audits compare with; and attempts beside these nights. While
    a night runs all attempts stay. What a killed prune leaves nobody reads, and the next one removes it.
    """
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.prune import prune as prune_output
    from pipelines.verbs.prune import removals_table

    settings = load_config(config, overrides)
    pruned = prune_output(settings, keep=keep, delete=delete)
    report.show(removals_table(pruned, Path(settings.output)))
    facts = pruned.as_json()
    report.result(facts)
    verb = "removed" if delete else "would remove"
    then = next_command("prune --delete", config) if pruned.removals and not delete else None
    return Closing(f"{verb} {len(pruned.removals)} things ({facts['freed_bytes'] / 1e6:.1f} MB)", then=then)


@command(
    readers_app,
    ["nightrank forget --user-file leaver.txt", "nightrank forget --user 4711"],
    panel=_PANEL,
)
def forget(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    user: Annotated[str, typer.Option("--user", help="The user's id; it stays in the shell's history.")] = "",
    user_file: Annotated[
        Path | None, typer.Option("--user-file", help="A file whose first line is the id, and which you delete then.")
    ] = None,
) -> Closing:
    """Remove a user from published nights, folded state, kept rows and quarantine, and say what remains elsewhere.

    Remove the user's rows from your own tables first: as long as they are there, the next night ranks the user again.
    The id is neither shown nor kept: the journal counts users.
    """
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.forget import forget as forget_user
    from pipelines.verbs.forget import remains_table

    settings = load_config(config, overrides)
    forgotten = forget_user(settings, _user_of(user, user_file))
    report.show(remains_table(forgotten))
    report.result(forgotten.as_json())
    if not forgotten.anything:
        return Closing("nothing held of this user")
    removed = ", ".join(f"{n} {what}" for what, n in forgotten.removed.items() if n)
    return Closing(f"forgot a user: {removed}", then=next_command("status", config))


def _user_of(user: str, user_file: Path | None) -> str:
    """The id that is named on the command line or in a file.

    Raises:
        ConfigError: None is, or both, or the file has none.
    """
    if bool(user) == (user_file is not None):
        raise ConfigError("name one user: --user ID, or --user-file FILE, whose first line is the id.")
    if user_file is None:
        return user
    try:
        lines = user_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--user-file: {user_file} cannot be read as text. Name a file whose first line is the id."
        ) from error
    if not lines or not lines[0]:
        raise ConfigError(f"--user-file: the first line of {user_file} is empty. Write the id there.")
    return lines[0]


def _span(text: str) -> timedelta:
    """A span of time such as 26h.

    Raises:
        ConfigError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text)
    if match is None:
        raise ConfigError(f"--max-age: {text!r} is no span of time. Write a number and m, h or d: 90m, 26h, 2d.")
    return timedelta(hours=float(match[1]) * _HOURS[match[2]])
