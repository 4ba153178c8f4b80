"""Tables of configuration keys say what the models say."""

import re

import pytest

from features.errors import ConfigError
from pipelines.base.config import ClickConfig, Config
from pipelines.base.option_tables import effects, example_of, filled, markdown_table, options_of, overview, paths

TOP = tuple(dict.fromkeys((*Config.model_fields, *ClickConfig.model_fields)))


def option(path):
    (one,) = options_of(path)
    return one


@pytest.mark.parametrize(
    ("path", "values", "default"),
    [
        ("seed", "whole number, 0 to below 2,147,483,648", "0"),
        ("ranker.learning_rate", "number, above 0 to 1", "0.1"),
        ("ranker.truncation", "whole number, 1 or more; or null", "null"),
        ("ranker.monotone", "mapping of texts to `-1`, `1`", "{}"),
        ("ranker.network.dropout", "number, 0 to below 1", "0.1"),
        ("ranker.network.hidden", "list of whole numbers, 8 at most", "[128, 64]"),
        ("encoder.max_tokens", "whole number, 8 to 512, in steps of 8", "48"),
        ("encoder.pooling", "`auto`, `mean`, `cls`", "auto"),
        ("encoder.gradient_checkpointing", "true or false", "false"),
        ("labels.gains", "mapping of texts to whole numbers", "{click: 1, cart: 2, purchase: 3}"),
        ("calendar.cutoff", "time of day", "00:00"),
        ("candidates.blocked", "list of texts or whole numbers", "[]"),
        ("data.items.path", "text", "required"),
        ("click_model.members", "whole number, 2 to 20", "5"),
    ],
)
def test_values_and_default_of_one_key(path, values, default):
    assert (option(path).values, option(path).default) == (values, default)


def test_a_section_has_the_keys_below_it_in_the_order_of_the_model():
    keys = [one.key for one in options_of("ranker")]
    assert keys.index("objective") < keys.index("gain") < keys.index("max_requests")
    assert keys[keys.index("network") :][:3] == ["network", "network.hidden", "network.epochs"]
    assert [one.key for one in options_of("ranker.network")][:2] == ["hidden", "epochs"]


def test_keys_of_sections_in_lists_and_of_optional_sections_are_there():
    assert {"items.text", "items.text.max_words", "events.path", "users"} <= {one.key for one in options_of("data")}
    assert {"value_gain", "value_gain.unit"} <= {one.key for one in options_of("labels")}


@pytest.mark.parametrize(
    ("path", "nearest"),
    [("rankr", "ranker"), ("ranker.num_leafs", "ranker.num_leaves"), ("num_leaves.x", "ranker.num_leaves")],
)
def test_an_unknown_path_names_the_nearest(path, nearest):
    with pytest.raises(ConfigError, match=rf"has no key '{path}'. Did you mean '{nearest}'\?"):
        options_of(path)


def test_a_path_near_nothing_says_where_the_sections_are_listed():
    with pytest.raises(ConfigError, match="`nightrank help config` lists the sections"):
        options_of("###")


def test_every_path_has_options_and_every_top_key_a_line():
    assert len(paths()) > 150
    assert [path for path in paths() if not options_of(path)] == []
    assert [name for name, _ in overview()] == list(TOP)
    assert [name for name, line in overview() if not line.endswith(".")] == []


def test_a_change_takes_effect_as_whose_the_key_is():
    assert effects(options_of("timeline")) == "A change takes effect with the next training."
    assert effects(options_of("evaluation")) == "A change takes effect with the next evaluation or promotion."
    said = "A change takes effect with the next training. For `new_arrivals`, `supplied`, `already_bought`, `blocked` "
    assert effects(options_of("candidates")) == f"{said}with the next command."


@pytest.mark.parametrize("top", TOP)
def test_descriptions_are_plain_sentences(top):
    for one in options_of(top):
        assert re.fullmatch(r"[A-Z`].{10,}\.", one.description, flags=re.DOTALL) or one.description.startswith(
            ("true ", "fp16")
        ), (top, one.key)
        assert len(one.description.split()) >= 4, (top, one.key)
        assert not re.search(r"\b(told|tonight|Tonight|unless told|lesson|comebacks)\b", one.description), one.key


def test_a_markdown_table_has_four_cells_a_row_whatever_stands_in_them():
    for line in markdown_table("features").splitlines()[:-2]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 5, line


def test_tables_between_marks_are_made_anew_and_the_rest_stays():
    text = "# A\n<!-- config: vectors -->\nold\n<!-- /config -->\nrest\n<!-- config: night.top --><!-- /config -->"
    text = text.replace("night.top --><", "night.top -->\n<")
    new = filled(text)
    assert new.startswith("# A\n<!-- config: vectors -->\n| key | values |")
    assert "old" not in new
    assert "| `keep_days` | number, 0 or more | `7.0` |" in new
    assert "| `top` | whole number, 1 to 1,000 | `20` | Items published for each user. |" in new
    assert "\n<!-- /config -->\nrest\n" in new
    assert filled(new) == new


def test_a_table_without_an_end_or_of_no_key_is_refused():
    with pytest.raises(ConfigError, match="1 tables of options have no end"):
        filled("<!-- config: night -->\n<!-- config: vectors -->\n<!-- /config -->\n")
    with pytest.raises(ConfigError, match="Did you mean 'night'"):
        filled("<!-- config: nigth -->\n<!-- /config -->\n")


def test_a_section_with_an_example_shows_it_below_its_table():
    assert markdown_table("promotion").endswith(f"```yaml\n{example_of('promotion')}```\n")
    assert example_of("promotion").startswith("promotion:\n")
    assert (example_of("ranker"), example_of("promotion.metric")) == ("", "")
