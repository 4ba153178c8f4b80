"""The commands that come in groups: features, click-model, vectors."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import Closing, command, next_command
from pipelines.cli.options import DEFAULT, AllowEmpty, ConfigPath, Overrides, open_inputs, open_settings

__all__ = ["click_app", "features_app", "vectors_app"]

_CLICKS = Path("clicks.yaml")

features_app = typer.Typer(no_args_is_help=True, help="The feature families: what they are, and how they look now.")

click_app = typer.Typer(
    no_args_is_help=True,
    help="Which text is clicked more, learned from A/B tests of texts (headlines): no users needed.",
)

vectors_app = typer.Typer(no_args_is_help=True, help="The vector stores: what they hold, and what nobody needs.")


@command(features_app, ["nightrank features list"], name="list")
def features_list(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
    """List every feature family and its columns, what they mean, and whether they are on; reads no data."""
    from pipelines.base import report
    from pipelines.verbs.feature_columns import catalogue_of_columns

    settings = open_settings(config, overrides)
    kinds = tuple(settings.labels.gains)
    text = settings.data.items.text_fields
    columns = catalogue_of_columns(
        settings.features,
        kinds=kinds,
        text=text,
        requests=settings.requests,
        candidates=settings.candidates,
        offers=settings.data.offers is not None,
    )
    report.show(*report.features_table(columns))
    report.result({"columns": columns})
    return Closing(f"listed {len(columns)} columns", then="nightrank help config features")


@command(
    features_app,
    [
        "nightrank features describe",
        "nightrank features describe --to reference.json",
        "nightrank features describe --reference reference.json --latest",
    ],
    name="describe",
)
def features_describe(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    reference: Annotated[Path | None, typer.Option("--reference", help="Statistics of an earlier --to.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Write the statistics, as a later reference.")] = None,
    latest: Annotated[bool, typer.Option("--latest", help="The log's latest requests, not validation's.")] = False,
    allow_empty: AllowEmpty = False,
) -> Closing:
    """Show mean, spread and undefined share of every feature, and its drift (PSI) against a reference."""
    from pipelines.base import report
    from pipelines.verbs.feature_columns import describe, write_reference

    settings, inputs = open_inputs(config, overrides, allow_empty=allow_empty)
    described = describe(inputs.log, settings, reference=reference, latest=latest)
    facts = described.as_json()
    report.show(*report.statistics_table(facts))
    if described.gone:
        report.show(f"columns of the reference that there are no longer: {', '.join(described.gone)}")
    if to is not None:
        write_reference(described, to)
    report.result(facts)
    again = None if to is None else next_command(f"features describe --reference {to}", config)
    return Closing(f"described {len(facts['columns'])} columns", lies_in=to, then=again)


@command(
    click_app, ["nightrank click-model train", "nightrank click-model train --config headlines.yaml"], name="train"
)
def click_model_train(
    config: ConfigPath = _CLICKS, overrides: Overrides = [], *, allow_empty: AllowEmpty = False
) -> Closing:
    """Learn from a table of group, text, impressions and clicks; the model is written under `output`/click-model."""
    from pipelines.base import report
    from pipelines.base.config import load_click_config
    from pipelines.verbs.headlines import train_click_model

    facts = train_click_model(load_click_config(config, overrides), allow_empty=allow_empty)
    report.show("  ".join(f"{key}: {value}" for key, value in facts.items()))
    report.result(facts)
    then = next_command("click-model score TABLE --to FILE", config, default=_CLICKS)
    return Closing("trained the click model", lies_in=facts["folder"], then=then)


@command(click_app, ["nightrank click-model score tomorrow.csv --to scored.parquet"], name="score")
def click_model_score(
    table: Annotated[Path, typer.Argument(help="Table with the texts: a file, a glob or a folder.")],
    config: ConfigPath = _CLICKS,
    overrides: Overrides = [],
    *,
    to: Annotated[Path, typer.Option("--to", help="Parquet file to write: the table with logit and probability.")],
) -> Closing:
    """Score texts: the one with the highest score of a group is the one to show."""
    from pipelines.base import report
    from pipelines.base.config import load_click_config
    from pipelines.verbs.headlines import score_click_model

    facts = score_click_model(load_click_config(config, overrides), table, to)
    report.show("  ".join(f"{key}: {value}" for key, value in facts.items()))
    report.result(facts)
    return Closing(f"scored {facts['texts']:,} texts", lies_in=to)


@command(vectors_app, ["nightrank vectors stats"], name="stats")
def vectors_stats(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
    """Show the stores, one for each encoder: segments, texts, bytes, versions that use it, last use."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.vector_stores import stores

    facts = [store.as_json() for store in stores(load_config(config, overrides))]
    report.show(*report.stores_table(facts))
    report.result({"stores": facts})
    return Closing(f"looked at {len(facts)} stores", then=next_command("vectors gc --dry-run", config))


@command(vectors_app, ["nightrank vectors verify"], name="verify")
def vectors_verify(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
    """Check every segment of the stores against its checksum."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.vector_stores import verify

    facts = verify(load_config(config, overrides))
    report.result(facts)
    return Closing(f"verified {facts['segments']} segments of {facts['stores']} stores ({facts['bytes'] / 1e6:.1f} MB)")


@command(vectors_app, ["nightrank vectors gc --dry-run", "nightrank vectors gc --set vectors.keep_days=0"], name="gc")
def vectors_gc(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
) -> Closing:
    """Remove the stores that no registered version needs (`vectors.keep_days` after their last use)."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.vector_stores import collect

    facts = collect(load_config(config, overrides), dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    report.show(f"{verb}: {', '.join(facts['removed']) or 'nothing'}")
    report.result(facts)
    then = next_command("vectors gc", config) if dry_run and facts["removed"] else None
    return Closing(f"{verb} {len(facts['removed'])} stores ({facts['freed_bytes'] / 1e6:.1f} MB)", then=then)
