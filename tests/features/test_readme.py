"""What the README of the package shows: valid configuration, complete tables, links that lead somewhere."""

import re
from pathlib import Path

import yaml

import features
from features.candidates.catalog import SOURCES
from features.config import CandidatesConfig, FeaturesConfig, RequestsConfig
from features.families.registry import FAMILIES, chosen
from features.tables import schemas

README = Path(features.__file__).with_name("README.md")
TEXT = README.read_text(encoding="utf-8")
SECTIONS = {"requests": RequestsConfig, "candidates": CandidatesConfig, "features": FeaturesConfig}


def names_in(heading):
    """What stands in code marks in the first column of the tables of a section."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE)[1]
    written = re.sub(r"<!-- config.*?/config -->", "", section, flags=re.DOTALL)
    cells = re.findall(r"^\| (`[^|]*) \|", written, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_its_configuration_is_valid():
    shown = {}
    for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL):
        shown |= yaml.safe_load(block)
    for name, section in SECTIONS.items():
        section.model_validate(shown[name])
    config = FeaturesConfig.model_validate(shown["features"])
    assert [family.name for family in chosen(config)] == list(config.families)


def test_its_tables_name_every_family_generator_and_column_of_a_table():
    assert names_in("Features") == set(FeaturesConfig().families) <= set(FAMILIES)
    assert names_in("Candidates") == set(SOURCES)
    tables = (schemas.Items, schemas.Events, schemas.Users, schemas.SuppliedCandidates, schemas.Offers)
    assert {name for table in tables for name in table.column_names()} <= set(re.findall(r"`(\w+)`", TEXT))


def test_its_links_lead_somewhere():
    headings = re.findall(r"^#+ (.*)$", TEXT, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = link.partition("#")
        assert (README.parent / path).exists(), link
        assert path or anchor in anchors, link
