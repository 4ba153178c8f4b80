"""The command line. Each verb imports what it needs inside its command, so that `--help` is quick."""

import os

# NOTE: before any native library: OpenMP's spinning makes a busy machine many times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from features.errors import ConfigError, NightrankError
from pipelines.base.endings import ending
from pipelines.base.streams import patient_streams
from pipelines.cli.groups import click_app, features_app, vectors_app
from pipelines.cli.options import (
    DEFAULT,
    AllowEmpty,
    ConfigPath,
    Overrides,
    open_inputs,
    open_settings,
    registry_of,
    say_read,
)
from pipelines.cli.registry import history, promote, registry_app, rollback

__all__ = ["app", "main"]

app = typer.Typer(
    name="nightrank",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Text-aware recommendation ranking: check, train, evaluate, promote, score.",
)
app.add_typer(registry_app, name="registry")
app.add_typer(features_app, name="features")
app.add_typer(click_app, name="click-model")
app.add_typer(vectors_app, name="vectors")


@app.command()
def check(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    allow_empty: AllowEmpty = False,
) -> None:
    """Hold the input tables against their contracts, say what is there, and warn of what would stop a training."""
    from pipelines.base import report
    from pipelines.inputs.check import TextField, refuse_unknown, summary, text_fields
    from pipelines.training.request_source import request_source, requests_summary
    from pipelines.verbs.preflight import cautions, refuse_cautions

    settings, inputs = open_inputs(config, overrides, allow_empty=allow_empty, at_once=True)
    fields: list[TextField] = []
    with suppress(NightrankError):  # an encoder that does not load, of which `cautions` tells
        fields = text_fields(inputs, settings)
    found = cautions(inputs, settings, fields)
    facts = summary(inputs, fields) | requests_summary(request_source(inputs.log, settings))
    facts["warnings"] = [asdict(caution) for caution in found]
    report.show(*report.check_table(facts))
    report.show_warnings(facts["warnings"])
    report.result(facts)
    refuse_unknown(fields, settings)
    if strict:
        refuse_cautions(found)


@app.command()
def train(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    continues: Annotated[bool, typer.Option("--continue", help="Go on from the champion: learn what is new.")] = False,
    version: Annotated[
        str | None, typer.Option("--from", help="Number or alias to go on from, in place of the champion.")
    ] = None,
    allow_empty: AllowEmpty = False,
) -> None:
    """Fine-tune the encoder, train the ranker, judge both, and register the version as challenger."""
    from pipelines.base import report
    from pipelines.inputs.check import refuse_unknown, text_fields
    from pipelines.registry.register import register
    from pipelines.registry.tracking import Tracking
    from pipelines.registry.versions import continuing_config, predecessor
    from pipelines.training.train import train as train_version
    from pipelines.verbs.preflight import quick_cautions

    settings, inputs = open_inputs(config, overrides, allow_empty=allow_empty)
    fields = text_fields(inputs, settings)
    refuse_unknown(fields, settings)
    report.show_warnings([asdict(caution) for caution in quick_cautions(inputs, settings, fields)])
    before = None
    if continues or version is not None:
        settings = continuing_config(settings)
        before = predecessor(registry_of(settings), version or "champion", settings)
    with Tracking(settings).run() as run:
        trained = train_version(inputs.log, settings, run.series, continues=before)
        registered = register(trained, inputs, settings, run)
    facts = registered.evaluation.as_json() | trained.lineage()
    report.show(*report.systems_table(facts, k=settings.evaluation.cutoffs[-1]))
    report.show(f"registered {registered.version.name} as challenger; promote it with: nightrank promote")
    report.result({"version": registered.version.name, "bundle": str(registered.bundle), **facts})


@app.command()
def evaluate(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    versions: Annotated[
        list[str], typer.Option("--version", help="Number or alias; repeat to compare (default: challenger).")
    ] = [],
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the window.")
    ] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day of the window.")] = None,
    scores: Annotated[
        list[str],
        typer.Option("--scores", metavar="NAME=PATH", help="Scores of another system, to be judged too; repeat."),
    ] = [],
    systems: Annotated[
        str, typer.Option("--systems", metavar="all|NAME,...", help="Which systems are judged; the first is compared.")
    ] = "all",
    ablate: Annotated[
        str,
        typer.Option(
            metavar="PART,...",
            help="Judge it without these too: text, behaviour, prequential, a feature family, field:NAME.",
        ),
    ] = "",
    origins: Annotated[
        int, typer.Option(min=0, help="Judge no version, but the whole training as of so many cut-offs.")
    ] = 0,
    allow_empty: AllowEmpty = False,
) -> None:
    """Judge registered versions and the baselines on the same requests (default: the version's own test window)."""
    if origins:
        told = {"--version": versions, "--from": first, "--to": last, "--ablate": ablate}
        if taken := [name for name, value in told.items() if value]:
            raise ConfigError(f"--origins trains and judges by itself: leave out {', '.join(taken)}.")
        _judge_origins(config, overrides, origins, systems, scores, allow_empty=allow_empty)
        return
    from features.log.event_log import batch_day, date_of, day_of
    from pipelines.base import report
    from pipelines.evaluation.external import read_scores
    from pipelines.inputs.read import read_events
    from pipelines.registry.register import record_ablations
    from pipelines.registry.versions import judge_versions, load_version, not_followed, working_config

    external = read_scores(scores)
    settings = open_settings(config, overrides)
    registry = registry_of(settings)
    versions = versions or ["challenger"]
    loaded = dict(load_version(registry, wanted) for wanted in versions)
    judged = next(iter(loaded.values()))
    inputs = say_read(read_events(working_config(settings, judged), allow_empty=allow_empty))
    opens, closes = judged.window
    first_day = batch_day(first.date() if first else opens)
    end_day = batch_day(last.date() if last else closes) + 1
    if end_day <= first_day:
        raise ConfigError(
            f"the window ends ({date_of(end_day - 1)}, --to) before it begins ({date_of(first_day)}, --from). Turn "
            "the two around, or give both."
        )
    found = judge_versions(
        inputs.log,
        settings,
        loaded,
        first_day=first_day,
        end_day=end_day,
        external=external,
        chosen=systems,
        ablate=ablate,
    )
    facts = found.as_json()
    report.show(*report.systems_table(facts, k=settings.evaluation.cutoffs[-1]))
    if found.ablated and (first_day, end_day) == (day_of(opens), day_of(closes) + 1):
        record_ablations(found, registry.version(versions[0]), settings)
    other = {name: not_followed(settings, bundle, judged=True) for name, bundle in loaded.items()}
    report.result({"versions": list(loaded), "not_followed": other, **facts})


def _judge_origins(
    config: Path, overrides: list[str], count: int, systems: str, scores: list[str], *, allow_empty: bool
) -> None:
    """Judge the whole training as of several cut-offs."""
    from pipelines.base import report
    from pipelines.evaluation.external import read_scores
    from pipelines.inputs.check import refuse_unknown, text_fields
    from pipelines.verbs.origins import rolling_origin

    external = read_scores(scores)
    settings, inputs = open_inputs(config, overrides, allow_empty=allow_empty)
    refuse_unknown(text_fields(inputs, settings), settings)
    facts = rolling_origin(inputs, settings, count, chosen=systems, external=external).as_json()
    report.show(*report.origins_table(facts, k=settings.evaluation.cutoffs[-1]))
    report.result(facts)


for verb in (promote, rollback, history):
    app.command()(verb)


@app.command()
def score(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    when: Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="The day the rankings are for.")],
    version: Annotated[str, typer.Option("--version", help="Number or alias.")] = "champion",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    allow_hindsight: Annotated[
        bool,
        typer.Option("--allow-hindsight", help="Rank a day of which the version saw the future too; never goes live."),
    ] = False,
    allow_empty: AllowEmpty = False,
) -> None:
    """Rank every user as of the cut-off that opens a day, and publish. A rerun changes no byte."""
    from pipelines.base import report
    from pipelines.inputs.check import read_inputs
    from pipelines.inputs.read import read_for
    from pipelines.registry.versions import load_version, plan_of_version, working_config
    from pipelines.verbs.score import score as score_night

    settings = open_settings(config, overrides)
    name, bundle = load_version(registry_of(settings), version)
    own = working_config(settings, bundle)
    if dry_run:  # which writes nothing, neither state nor quarantine
        inputs = say_read(read_inputs(own, allow_empty=allow_empty, write=False))
    else:
        plan = plan_of_version(settings, bundle)
        inputs = say_read(read_for(plan, own, candidates=own.candidates, allow_empty=allow_empty))
    night = score_night(
        inputs,
        settings,
        when=when.date(),
        version=name,
        bundle=bundle,
        dry_run=dry_run,
        allow_hindsight=allow_hindsight,
    )
    report.show("  ".join(f"{key}: {value}" for key, value in night.items()))
    report.result(night)


@app.command()
def status(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> None:
    """Say what is published, after verifying it."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.stores.publish import published

    live = published(Path(load_config(config, overrides).output) / "rankings")
    facts: dict[str, Any] = {"published": None}
    if live is not None:
        told = {key: live.manifest[key] for key in ("date", "version", "users")}
        rows = sum(part["rows"] for part in live.manifest["parts"].values())
        facts = {"published": {**told, "rows": rows, "folder": str(live.attempt.folder)}}
    report.show(str(facts["published"] or "nothing is published yet; publish with: nightrank score --date DAY"))
    report.result(facts)


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="complete-journey, online-retail, ifdb, wikispeedia or simulated.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write tables and nightrank.yaml into.")],
) -> None:
    """Write a data set to start from: its tables and a nightrank.yaml."""
    from pipelines.base import report
    from pipelines.verbs.datasets import load_dataset
    from pipelines.verbs.project import write_dataset

    path = write_dataset(load_dataset(name), to)
    report.show(f"wrote {path}; next: nightrank check --config {path}")
    report.result({"config": str(path)})


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--to", help="Folder of the demo's data and results.")] = Path("nightrank-demo"),
) -> None:
    """The main job on a real grocery log: check, train, evaluate, promote, and two nights."""
    from pipelines.verbs.demo import run_demo

    run_demo(to)


def main() -> NoReturn:
    """Run a command; an error ends with the exit code of its kind and its message on stderr."""
    signal.signal(signal.SIGTERM, _terminated)
    with patient_streams():
        code = _run()
    sys.exit(code)


def _run() -> int:
    """Run a command; returns its exit code."""
    try:
        _refuse_strangers()
        app(standalone_mode=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:  # noqa: BLE001 - a Rust library's panic is no Exception
        code, told = ending(error)
        sys.stderr.write(told)
        return code
    return 0


def _refuse_strangers() -> None:
    """Stop where one of our four packages is someone else's of the same name.

    Raises:
        ConfigError: Names the package and where it was found.
    """
    own = Path(__file__).resolve().parents[2]
    for name in ("features", "encoders", "ranker", "pipelines"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve().parent.parent if spec and spec.origin else None
        if found != own:
            raise ConfigError(
                f"the package {name!r} at {found} is not nightrank's; install nightrank into a venv of its own."
            )


def _terminated(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a signal handler's form
    sys.exit(143)


if __name__ == "__main__":
    main()
