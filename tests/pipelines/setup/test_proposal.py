"""What init proposes for tables under names of many languages, in many forms; expected by hand."""

import polars as pl
import pytest
from shop_tables import LANGUAGES, tables, write

from features.errors import ConfigError, ContractError
from pipelines.verbs.init import init


def columns(table) -> dict[str, str]:
    return {ours: theirs for ours, (theirs, _) in table.columns.items()}


def chosen(folder, **options):
    return init(folder, dry_run=True, **options).proposal


@pytest.mark.parametrize("language", LANGUAGES)
def test_columns_are_found_by_their_names_in_ten_languages(language, tmp_path):
    names = LANGUAGES[language]
    catalogue, log = tables(names)
    proposal = chosen(write(tmp_path, eins=catalogue, zwei=log))
    assert columns(proposal.items) == {"item_id": names.item, "category": names.category, "price": names.price}
    assert columns(proposal.events) == {
        "user_id": names.user,
        "item_id": names.log_item,
        "timestamp": names.time,
        "event": names.event,
    }
    assert [field.column for field in proposal.catalogue.texts] == [names.title, names.description, names.category]
    assert dict(proposal.types.gains) == dict(zip(names.kinds, (1, 2, 3), strict=True))
    assert proposal.doubts == []
