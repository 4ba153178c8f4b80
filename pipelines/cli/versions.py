"""The commands of versions: train one, register it later, and judge it."""

from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from features.errors import ConfigError
from pipelines.cli.commands import Closing, command, next_command
from pipelines.cli.options import (
    DEFAULT,
    AllowEmpty,
    ConfigPath,
    Overrides,
    open_inputs,
    open_settings,
    registry_of,
    say_read,
    version_names,
)

__all__ = ["versions_app"]

versions_app = typer.Typer()
_PANEL = "Versions"


@command(
    versions_app,
    [
        "nightrank train",
        "nightrank train --set encoder.steps=100 --set ranker.num_leaves=31",
        "nightrank train --continue",
    ],
    panel=_PANEL,
)
def train(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    continues: Annotated[
        bool, typer.Option("--continue", help="Go on from the champion and learn only what is new.")
    ] = False,
    version: Annotated[
        str | None,
        typer.Option(
            "--from", help="Number or alias to go on from, instead of the champion.", autocompletion=version_names
        ),
    ] = None,
    allow_empty: AllowEmpty = False,
) -> Closing:
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
    name = registered.version.name
    report.result({"version": name, "bundle": str(registered.bundle), **facts})
    return Closing(
        f"trained {name} and registered it as challenger",
        lies_in=registered.bundle,
        then=next_command("promote", config),
    )


@command(versions_app, ["nightrank register out/bundles/69397e0fc57d28f124d817b266ca2536"], panel=_PANEL)
def register(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle that the training wrote.")],
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
) -> Closing:
    """Register a finished training whose tracking server was away at its end, from what it left on disk."""
    from pipelines.base import report
    from pipelines.registry.entry import register_later

    version, is_new = register_later(bundle, open_settings(config, overrides))
    report.result({"version": version.name, "bundle": str(bundle), "digest": version.digest, "new": is_new})
    what = f"registered {version.name} as challenger" if is_new else f"{version.name} is that bundle already"
    return Closing(what, lies_in=bundle, then=next_command(f"promote --version {version.number}", config))


@command(
    versions_app,
    [
        "nightrank evaluate",
        "nightrank evaluate --version champion --version challenger --from 2024-04-01 --to 2024-04-28",
        "nightrank evaluate --scores ours=scores.parquet --systems ours,popularity",
        "nightrank evaluate --ablate text,behaviour",
        "nightrank evaluate --origins 3",
    ],
    panel=_PANEL,
)
def evaluate(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    versions: Annotated[
        list[str],
        typer.Option(
            "--version",
            help="Number or alias; repeat to compare (default: challenger).",
            autocompletion=version_names,
        ),
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
        int, typer.Option(min=0, help="Judge the whole training instead, as of this many cut-offs.")
    ] = 0,
    allow_empty: AllowEmpty = False,
) -> Closing:
    """Judge registered versions and the baselines on the same requests (default: the version's own test window)."""
    if origins:
        excluded = {"--version": versions, "--from": first, "--to": last, "--ablate": ablate}
        if present := [name for name, value in excluded.items() if value]:
            raise ConfigError(f"--origins trains and judges by itself. Leave out {', '.join(present)}.")
        return _judge_origins(config, overrides, origins, systems, scores, allow_empty=allow_empty)
    from pipelines.base import report
    from pipelines.evaluation.external import read_scores
    from pipelines.inputs.read import read_events
    from pipelines.registry.register import record_ablations
    from pipelines.registry.versions import judge_versions, load_version, not_followed, working_config

    external = read_scores(scores)
    settings = open_settings(config, overrides)
    registry = registry_of(settings)
    versions = versions or ["challenger"]
    loaded = dict(load_version(registry, name) for name in versions)
    judged = next(iter(loaded.values()))
    inputs = say_read(read_events(working_config(settings, judged), allow_empty=allow_empty))
    own_window = _window(judged.window, None, None)
    first_day, end_day = _window(judged.window, first, last)
    evaluation = judge_versions(
        inputs.log,
        settings,
        loaded,
        first_day=first_day,
        end_day=end_day,
        external=external,
        chosen=systems,
        ablate=ablate,
    )
    facts = evaluation.as_json()
    report.show(*report.systems_table(facts, k=settings.evaluation.cutoffs[-1]))
    if evaluation.ablated and (first_day, end_day) == own_window:
        record_ablations(evaluation, registry.version(versions[0]), settings)
    other = {name: not_followed(settings, bundle, judged=True) for name, bundle in loaded.items()}
    report.result({"versions": list(loaded), "not_followed": other, **facts})
    return Closing(
        f"judged {', '.join(loaded)} on {facts['requests']:,} requests", then=next_command("promote", config)
    )


def _window(own: tuple[date, date], first: datetime | None, last: datetime | None) -> tuple[int, int]:
    """First batch day and the day after the last, of the options or else of the version's own test window."""
    from features.calendar import batch_day, date_of

    first_day = batch_day(first.date() if first else own[0])
    end_day = batch_day(last.date() if last else own[1]) + 1
    if end_day <= first_day:
        raise ConfigError(
            f"the window ends ({date_of(end_day - 1)}, --to) before it begins ({date_of(first_day)}, --from). Turn "
            "the two around, or give both."
        )
    return first_day, end_day


def _judge_origins(
    config: Path, overrides: list[str], count: int, systems: str, scores: list[str], *, allow_empty: bool
) -> Closing:
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
    return Closing(
        f"judged the training as of {count} cut-offs",
        lies_in=Path(settings.output) / "origins",
        then=next_command("train", config),
    )
