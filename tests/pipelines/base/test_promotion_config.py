"""The policy of a promotion: what it may name, and what is said of what it may not."""

import pytest
import yaml
from pydantic import ValidationError

from pipelines.base.config import Config, load_config
from pipelines.base.promotion_config import PromotionConfig, column_of
from pipelines.base.scalars import load_yaml

TABLE = {"path": "none.parquet"}


def config(**promotion):
    return Config.model_validate({"data": {"items": TABLE, "events": TABLE}, "promotion": promotion})


def test_the_example_of_the_documentation_is_a_policy():
    policy = config(**load_yaml(PromotionConfig.example)["promotion"]).promotion
    assert policy.columns("items") == ("category",)
    assert policy.columns("users") == ("country",)
    assert policy.tags == {"reviewed": "yes"}
    assert policy.needs_lists


def test_without_keys_only_what_every_promotion_asks_is_configured():
    assert config().promotion.configured() == {
        "min_lift_over_baseline": 0.0,
        "max_loss_to_champion": 0.005,
        "min_distinct_share": 0.5,
    }
    assert not config().promotion.needs_lists


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("users.country", ("users", "country", None)),
        ("items.brand=a=b", ("items", "brand", "a=b")),
        ("offers.kind=x", ("", "", None)),
        ("new user", ("", "", None)),
    ],
)
def test_a_name_is_read_as_table_column_and_value(name, parts):
    assert column_of(name) == parts


@pytest.mark.parametrize(
    ("promotion", "says"),
    [
        ({"slices": [{"slice": "cold items", "floor": 0.1}]}, "no slice 'cold items'. Did you mean 'cold item'?"),
        ({"slices": [{"slice": "items.category", "floor": 0.1}]}, "Name a value: items.category=VALUE"),
        ({"slices": [{"slice": "cold item"}]}, "nothing is asked of 'cold item'"),
        ({"slices": [{"slice": "all", "floor": 0.1}, {"slice": "all", "floor": 0.2}]}, "'all' stands there twice"),
        ({"guards": [{"figure": "covrage@10", "least": 0.1}]}, "'covrage@10'. Did you mean 'coverage@10'?"),
        ({"guards": [{"figure": "gini@20", "most": 0.1}]}, "no figure is called 'gini@20'"),
        ({"guards": [{"figure": "gini@10"}]}, "nothing is asked of 'gini@10'"),
        ({"groups": [{"by": "country", "max_ndcg_gap": 0.1}]}, "'country' names no attribute"),
        ({"groups": [{"by": "items.category", "max_ndcg_gap": 0.1}]}, "groups of items take max_exposure_gap"),
        ({"groups": [{"by": "users.country", "max_exposure_gap": 0.1}]}, "groups of users take max_ndcg_gap"),
        ({"metric": "ndcg@20"}, "'ndcg@20' is none of the evaluation's"),
        ({"metric": "ndcg@10 (value)"}, "needs labels.value_gain"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(promotion, says):
    with pytest.raises(ValidationError) as refused:
        config(**promotion)
    assert says in str(refused.value)


def test_tags_are_text_as_they_are_written(tmp_path):
    path = tmp_path / "nightrank.yaml"
    keys = yaml.safe_dump({"data": {"items": TABLE, "events": TABLE}})
    path.write_text(f"{keys}promotion:\n  tags: {{reviewed: yes, ticket: 0012, owner: null}}\n")
    assert load_config(path).promotion.tags == {"reviewed": "yes", "ticket": "0012", "owner": None}
