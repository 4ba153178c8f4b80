"""The page of trends: it loads nothing, runs nothing, and shows hostile names as text."""

from datetime import date
from html.parser import HTMLParser

from pipelines.monitor.drift import Drift
from pipelines.monitor.estimate import Estimate
from pipelines.monitor.realised import ALL, Realised, SliceNdcg
from pipelines.monitor.trends import trends_page
from pipelines.night.measures import NO_LISTS, InputMeasures, Measures

HOSTILE = "<script>alert(1)</script>"
NIGHTS = [
    Realised(date(2024, 5, 6), HOSTILE, "closed", {ALL: SliceNdcg(0.25, 0.2, 0.3, 40, 39)}),
    Realised(date(2024, 5, 7), "v1", "open", {}),
]
DRIFTS = [Drift("columns", "warned", 0.5, 0.75, f'stability index of 3 columns: "{HOSTILE}"')]


class Elements(HTMLParser):
    """All tags with their attributes, and all texts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


INPUTS = InputMeasures(events=9, by_day={"buy": (4, 5)}, users=3, strangers=1, items=8, on_sale=7, with_text=8)
MEASURES = [
    Measures(day=day, version="v1", rules="", inputs=INPUTS, lists=NO_LISTS) for day in ("2024-05-06", "2024-05-07")
]


def page(nights=NIGHTS, measures=MEASURES):
    return trends_page(nights, DRIFTS, measures, Estimate(0.3, 0.25, 0.35, 14), metric="ndcg@10")


def test_nothing_is_loaded_and_nothing_runs():
    tags = Elements(page()).tags
    policy = next(attrs["content"] for tag, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "image"} == set()
    assert [
        attrs for _, attrs in tags if any(name.startswith("on") or name in {"src", "action"} for name in attrs)
    ] == []
    assert {href[0] for _, attrs in tags for name, href in attrs.items() if name.endswith("href")} <= {"#"}


def test_names_from_data_are_text():
    assert any(HOSTILE in text for text in Elements(page()).texts)
    assert HOSTILE not in page()


def test_pictures_say_in_words_what_they_show_and_follow_the_pages_colours():
    html = page()
    words = [attrs["aria-label"] for _, attrs in Elements(html).tags if attrs.get("role") == "img"]
    assert words[0] == "Mean ndcg@10 of each night over the users who acted, with its 95 % interval; 0.2500 at last."
    assert len(words) == html.count("<svg") == 6
    assert "var(--line)" in html
    assert "#010101" not in html
    assert "estimated before its labels are there: <strong>0.3000</strong>" in html


def test_the_same_nights_make_the_same_page():
    assert page() == page()


def test_without_closed_nights_and_measures_there_are_tables_alone():
    html = page(nights=NIGHTS[1:], measures=())
    assert "<svg" not in html
    assert "open" in Elements(html).texts
