"""What a training costs is judged and printed by stage."""

from train_cost import cost_lines, judged, whole_of


def cost(**spent):
    """By stage: seconds by the clock; of the processor twice as many; gigabytes that are no file's."""
    of = {
        name.replace("__", "/"): {
            "seconds": seconds,
            "cpu_seconds": 2 * seconds,
            "calls": 1,
            "peak_rss": 0,
            "peak_anon": gb * 1e9,
        }
        for name, (seconds, gb) in spent.items()
    }
    return {"spent": of, "missing": ["gone:f"], "peak_rss": 5e9}


def test_the_whole_is_the_sum_of_seconds_and_the_largest_peak():
    whole = whole_of(cost(features=(10.0, 1.0), ranker__trees=(30.0, 2.5), ranker__network=(20.0, 2.0)))
    assert (whole["seconds"], whole["cpu_seconds"], whole["peak_anon"]) == (60.0, 120.0, 2.5e9)


def test_the_demo_is_judged_by_the_clock_and_ifdb_by_the_processor():
    spent = {"ranker": (290.0, 3.5), "features": (5.0, 1.0)}
    assert judged("demo", cost(**spent)) == {"demo: 295 s <= 300": True, "demo: 3.50 GB <= 3 GB": False}
    assert judged("ifdb", cost(**spent)) == {"ifdb: 590 processor s <= 480": False, "ifdb: 3.50 GB <= 3 GB": False}
    assert judged("online-retail", cost(**spent)) == {}


def test_lines_begin_with_what_takes_the_processor_longest():
    lines = cost_lines(cost(features=(10.0, 1.0), ranker__trees=(30.0, 2.5), ranker__network=(20.0, 2.0)))
    names = [line.split()[0] for line in lines]
    assert names == ["whole", "ranker", "ranker/trees", "ranker/network", "features", "not"]
    assert "100.0 processor s" in lines[1]
    assert "anonymous  2.50 GB" in lines[1]
