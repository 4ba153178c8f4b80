"""The commands that come in groups: features, click-model, vectors."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import DEFAULT, AllowEmpty, ConfigPath, Overrides, open_inputs, open_settings

__all__ = ["click_app", "features_app", "vectors_app"]

features_app = typer.Typer(no_args_is_help=True, help="The feature families: what they are, and how they look now.")

click_app = typer.Typer(
    no_args_is_help=True,
    help="Which text is clicked more, learned from A/B tests of texts (headlines): no users needed.",
)

vectors_app = typer.Typer(no_args_is_help=True, help="The vector stores: what they hold, and what nobody needs.")


@features_app.command("list")
def features_list(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> None:
    """Every family and its columns, what they mean, and whether they are on; reads no data."""
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


@features_app.command("describe")
def features_describe(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    reference: Annotated[Path | None, typer.Option("--reference", help="Statistics of an earlier --to.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Write the statistics, as a later reference.")] = None,
    latest: Annotated[bool, typer.Option("--latest", help="The log's latest requests, not validation's.")] = False,
    allow_empty: AllowEmpty = False,
) -> None:
    """Mean, spread, undefined share of every feature, and its drift (PSI) against a reference."""
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
        report.show(f"wrote {to}; compare with it by: nightrank features describe --reference {to}")
    report.result(facts)


@click_app.command("train")
def click_model_train(
    config: ConfigPath = Path("clicks.yaml"), overrides: Overrides = [], *, allow_empty: AllowEmpty = False
) -> None:
    """Learn from a table of group, text, impressions and clicks; written under `output`/click-model."""
    from pipelines.base import report
    from pipelines.base.config import load_click_config
    from pipelines.verbs.headlines import train_click_model

    facts = train_click_model(load_click_config(config, overrides), allow_empty=allow_empty)
    report.show("  ".join(f"{key}: {value}" for key, value in facts.items()))
    report.result(facts)


@click_app.command("score")
def click_model_score(
    table: Annotated[Path, typer.Argument(help="Table with the texts: a file, a glob or a folder.")],
    config: ConfigPath = Path("clicks.yaml"),
    overrides: Overrides = [],
    *,
    to: Annotated[Path, typer.Option("--to", help="Parquet file to write: the table with logit and probability.")],
) -> None:
    """Score texts: the higher of a group is the one to show."""
    from pipelines.base import report
    from pipelines.base.config import load_click_config
    from pipelines.verbs.headlines import score_click_model

    facts = score_click_model(load_click_config(config, overrides), table, to)
    report.show("  ".join(f"{key}: {value}" for key, value in facts.items()))
    report.result(facts)


@vectors_app.command("stats")
def vectors_stats(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> None:
    """A row an encoder: segments, texts, bytes, the registered versions that use it, the last use."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.vector_stores import stores

    facts = [store.as_json() for store in stores(load_config(config, overrides))]
    report.show(*report.stores_table(facts))
    report.result({"stores": facts})


@vectors_app.command("verify")
def vectors_verify(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> None:
    """Hold every segment against its checksum."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.vector_stores import verify

    facts = verify(load_config(config, overrides))
    report.show(f"{facts['segments']} segments of {facts['stores']} stores are whole ({facts['bytes'] / 1e6:.1f} MB)")
    report.result(facts)


@vectors_app.command("gc")
def vectors_gc(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
) -> None:
    """Remove the stores that no registered version needs (`vectors.keep_days` after their last use)."""
    from pipelines.base import report
    from pipelines.base.config import load_config
    from pipelines.verbs.vector_stores import collect

    facts = collect(load_config(config, overrides), dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    report.show(f"{verb} {len(facts['removed'])} stores ({facts['freed_bytes'] / 1e6:.1f} MB): {facts['removed']}")
    report.result(facts)
