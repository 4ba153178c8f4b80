"""What every feature family must find, in plain Python: a scan of the past, event by event."""

import math
import re
from collections import Counter, defaultdict
from itertools import pairwise
from statistics import fmean
from types import SimpleNamespace

import polars as pl
from log_scan import alike, regressed

NAN = math.nan
MU, PRIOR, HALF_LIFE = 5.0, 20.0, 30.0
CONTEXT = ("device", "depth")


def ratio(part, whole):
    return part / whole if whole > 0 else NAN


def mean(values):
    return fmean(values) if values else NAN


def last(days, as_of):
    return as_of - max(days) if days else NAN


def first(days, as_of):
    return as_of - min(days) if days else NAN


def gaps(days):
    return [later - earlier for earlier, later in pairwise(sorted(set(days)))]


def within(days, as_of, window):
    return sum(as_of - window <= day for day in days)


def weight(age, half_life):
    return max(round(2 ** (-(age - 1) / half_life) * 2**16), 1) / 2**16


def shop_of(log, plan, as_of):
    """What is known as of a day, as plain Python."""
    events = [SimpleNamespace(**row) for row in log.events.filter(pl.col("day") < as_of).iter_rows(named=True)]
    return SimpleNamespace(
        as_of=as_of,
        events=events,
        engaged=[event for event in events if event.gain > 0],
        items=log.items.to_dicts(),
        users=log.users.to_dicts(),
        inventory=plan.inventory,
        offers=[SimpleNamespace(**row) for row in log.offers.iter_rows(named=True)],
    )


def counted(prefix, shop, has):
    """Counts of the engagements, and of each type of event, that `has` chooses."""
    columns = {}
    kinds = {f"{prefix}_events": [event for event in shop.engaged if has(event)]}
    for kind in shop.inventory.counted:
        kinds[f"{prefix}_events_{kind}"] = [event for event in shop.events if event.kind == kind and has(event)]
    for name, events in kinds.items():
        days = [event.day for event in events]
        columns |= {f"{name}_{window}d": within(days, shop.as_of, window) for window in (1, 7, 28, 90)}
        columns[f"{name}_all"] = len(days)
    return columns


def mean_price(shop, user):
    return mean([price for e in shop.engaged if e.user == user and (price := shop.items[e.item]["price"]) is not None])


def of_user(shop, user, _):
    mine = [event for event in shop.engaged if event.user == user]
    days, items = [event.day for event in mine], {event.item for event in mine}
    categories = Counter(c for event in mine if (c := shop.items[event.item]["category"]) is not None)
    total = categories.total()
    return {
        **counted("user", shop, lambda event: event.user == user),
        "user_days_since_last": last(days, shop.as_of),
        "user_days_since_first": first(days, shop.as_of),
        "user_active_days": len(set(days)),
        "user_events_per_active_day": ratio(len(days), len(set(days))),
        "user_mean_gap_days": mean(gaps(days)),
        "user_days_since_last_per_gap": last(days, shop.as_of) / mean(gaps(days)),
        "user_items_all": len(items),
        "user_events_per_item": ratio(len(days), len(items)),
        "user_mean_price": mean_price(shop, user),
        "user_category_entropy": abs(sum(n / total * math.log(n / total) for n in categories.values()))
        if total
        else NAN,
    }


def users_days(events, has):
    """Days of each user's engagements that `has` chooses."""
    columns = {}
    for event in events:
        if has(event):
            columns.setdefault(event.user, []).append(event.day)
    return columns


def of_item(shop, _, item):
    days = [event.day for event in shop.engaged if event.item == item]
    of_users = users_days(shop.engaged, lambda event: event.item == item)
    met = [min(some) for some in of_users.values()]
    week, month = within(days, shop.as_of, 7), within(days, shop.as_of, 28)
    returns = sum(event.kind == "return" and event.item == item for event in shop.events)
    price, category = shop.items[item]["price"], shop.items[item]["category"]
    others = [o["price"] for o in shop.items if o["category"] == category and o["price"] is not None]
    below = (
        sum(other < price for other in others) + sum(other == price for other in others) / 2 if price is not None else 0
    )
    return {
        **counted("item", shop, lambda event: event.item == item),
        **{f"item_decayed_{h}d": sum(weight(shop.as_of - day, h) for day in days) for h in (7, 30, 90)},
        "item_trend": (4 * week + 1) / (month + 1),
        "item_days_since_first": first(days, shop.as_of),
        "item_days_since_last": last(days, shop.as_of),
        "item_users_28d": within(met, shop.as_of, 28),
        "item_users_all": len(met),
        "item_events_per_user": ratio(len(days), len(met)),
        "item_repeat_share": ratio(sum(len(set(some)) > 1 for some in of_users.values()), len(met)),
        "item_mean_gap_days": mean([gap for some in of_users.values() for gap in gaps(some)]),
        "item_return_share": ratio(returns, len(days)),
        "item_price": NAN if price is None else price,
        "item_price_percentile": NAN if price is None else below / len(others),
    }


def rate(part, whole, parts, wholes):
    return (part + PRIOR * parts / wholes) / (whole + PRIOR) if wholes else NAN


def of_exposure(shop, _, item):
    kinds = Counter(event.kind for event in shop.events)
    own = Counter(event.kind for event in shop.events if event.item == item)
    return {
        "item_click_rate": rate(own["click"], own["impression"], kinds["click"], kinds["impression"]),
        "item_conversion_rate": rate(own["purchase"], own["click"], kinds["purchase"], kinds["click"]),
    }


def of_offers(shop, _, item):
    columns = {}
    for kind, name in (("leaflet", "leaflet"), ("Front page", "front_page")):
        mine = [offer for offer in shop.offers if (offer.item, offer.offer) == (item, kind)]

        def reach(day, mine=mine):
            return sum(offer.reach for offer in mine if offer.first_day <= day <= offer.last_day)

        columns[f"item_offer_now_{name}"] = reach(shop.as_of)
        columns[f"item_offer_28d_{name}"] = fmean(reach(day) for day in range(shop.as_of - 28, shop.as_of))
    return columns


def of_pair_exposure(shop, user, item):
    days = [e.day for e in shop.events if (e.user, e.item, e.kind) == (user, item, "impression")]
    return {
        "pair_shown_7d": within(days, shop.as_of, 7),
        "pair_shown_28d": within(days, shop.as_of, 28),
        "pair_shown_all": len(days),
        "pair_days_since_shown": last(days, shop.as_of),
    }


def of_similar_users(shop, user, item):
    near = alike([(e.user, e.item) for e in shop.engaged], user)
    columns = {}
    for window in (3, 7, 28, 90):
        there = {e.user for e in shop.engaged if e.item == item and shop.as_of - window <= e.day}
        columns[f"similar_users_{window}d"] = ratio(
            sum(n for who, n in near.items() if who in there), sum(near.values())
        )
    return columns


def of_ease(shop, user, item):
    def histories(as_of):
        counts = defaultdict(Counter)
        for e in shop.engaged:
            if e.day < as_of:
                counts[e.user][e.item] += weight(as_of - e.day, 30)
        return {who: {what: int(min(w, 1) * 1024) / 1024 for what, w in has.items()} for who, has in counts.items()}

    fitted = regressed(list(histories(shop.as_of // 7 * 7).values()))
    mine = histories(shop.as_of).get(user, {})
    return {"pair_ease": sum(w * fitted.get((other, item), 0) for other, w in mine.items())}


def of_money(shop, user, item):
    def usual(has):
        values = [e.value for e in shop.engaged if has(e) and e.value is not None and math.isfinite(e.value)]
        return mean([round(math.log1p(max(value, 0)) * 1024) / 1024 for value in values])

    every, mine = usual(lambda e: e.item == item), usual(lambda e: e.user == user)
    pair = usual(lambda e: (e.user, e.item) == (user, item))
    return {
        "item_value": every,
        "item_value_trend": usual(lambda e: e.item == item and e.day >= shop.as_of - 28) - every,
        "user_value": mine,
        "value_over_user": every - mine,
        "pair_value": pair,
        "pair_value_over_item": pair - every,
    }


def due(days, of_users, as_of):
    """Days since the last time over the mean of the own gaps and, once, of everybody's mean gap."""
    usual = mean([gap for some in of_users.values() for gap in gaps(some)])
    return last(days, as_of) / mean([*gaps(days), *([] if math.isnan(usual) else [usual])])


def lift(n, of_user, of_value, of_all):
    """The formula as it is in the paper; its limit where nobody, so neither the user, was seen with the value."""
    if of_value == 0:
        return math.log(MU / (of_user + MU))
    p = of_value / of_all
    return math.log((n + MU * p) / ((of_user + MU) * p))


def together(prefix, shop, user, has, all_of):
    """What a user did with an item or with all items of a value; `all_of` are the events that could be with one."""
    days = [event.day for event in all_of if event.user == user and has(event)]
    of_user = sum(event.user == user for event in all_of)
    of_value = sum(map(has, all_of))
    return {
        **{f"{prefix}_events_{window}d": within(days, shop.as_of, window) for window in (7, 28, 90)},
        f"{prefix}_events_all": len(days),
        f"{prefix}_days_since_last": last(days, shop.as_of),
        f"{prefix}_days_since_last_per_gap": last(days, shop.as_of) / mean(gaps(days)),
        f"{prefix}_due": due(days, users_days(all_of, has), shop.as_of),
        f"{prefix}_share": ratio(len(days), of_user),
        f"{prefix}_lift": lift(len(days), of_user, of_value, len(all_of)),
    }


def of_pair(shop, user, item):
    days = [event.day for event in shop.engaged if (event.user, event.item) == (user, item)]
    of_all = {event.day for event in shop.engaged if event.user == user}
    return {
        **together("pair", shop, user, lambda event: event.item == item, shop.engaged),
        "pair_active_days": len(set(days)),
        "pair_days_since_first": first(days, shop.as_of),
        "pair_share_of_active_days": ratio(len(set(days)), len(of_all)),
    }


def of_value(attribute):
    def oracle(shop, user, item):
        value = shop.items[item][attribute]
        valued = [event for event in shop.engaged if shop.items[event.item][attribute] is not None]
        columns = together(
            f"user_{attribute}", shop, user, lambda event: shop.items[event.item][attribute] == value, valued
        )
        return columns if value is not None else dict.fromkeys(columns, NAN)

    return oracle


def code(value, vocabulary):
    if value is None or vocabulary is None:
        return NAN if value is None else value
    return 1 + vocabulary.index(value) if value in vocabulary else 0


def of_attributes(prefix, table, names):
    def oracle(shop, user, item):
        row = shop.users[user] if table == "users" else shop.items[item]
        vocabularies = shop.inventory.vocabularies
        there = [name for name in names if f"{table}.{name}" in shop.inventory.inputs]  # not where all are null
        return {f"{prefix}_{name}": code(row[name], vocabularies.get(f"{table}.{name}")) for name in there}

    return oracle


def of_comments(shop, _, item):
    written = [event for event in shop.events if event.item == item and event.text is not None]
    days = [event.day for event in written]
    return {
        "comments_28d": within(days, shop.as_of, 28),
        "comments_all": len(days),
        "comments_days_since_last": last(days, shop.as_of),
        "comments_mean_length": mean([len(event.text) for event in written]),
        "comments_mean_sentiment": mean([event.mood for event in written if event.mood is not None]),
    }


def words(shop, item):
    texts = (shop.items[item][name] or "" for name in shop.inventory.text)
    return {word for text in texts for word in re.findall(r"[^\W_]+", text.lower())}


def phrases(shop, item):
    texts = [" ".join((shop.items[item][name] or "").lower().split()) for name in shop.inventory.text]
    return {(column, text) for column, text in enumerate(texts) if text}


def lifts(prefix, shop, user, item, tokens):
    """Mean, largest and smallest lift of the item's tokens, plain and decayed."""
    everybody = Counter(token for event in shop.engaged for token in tokens(shop, event.item))
    columns = {}
    for name, half_life in (("lift", math.inf), ("decayed_lift", HALF_LIFE)):
        mine = Counter()
        for event in shop.engaged:
            if event.user == user:
                for token in tokens(shop, event.item):
                    mine[token] += weight(shop.as_of - event.day, half_life)
        values = [lift(mine[t], mine.total(), everybody[t], everybody.total()) for t in tokens(shop, item)]
        chosen = (mean(values), max(values), min(values)) if values else (NAN,) * 3
        columns |= {
            f"{prefix}_{name}_{what}": value for what, value in zip(("mean", "max", "min"), chosen, strict=True)
        }
    return columns


def idf(shop):
    items_with = Counter(word for item in range(len(shop.items)) for word in words(shop, item))
    count = len(shop.items)
    weights = {word: round(math.log1p((count - n + 0.5) / (n + 0.5)) * 64) / 64 for word, n in items_with.items()}
    return weights, items_with


def bm25_of(shop, item):
    """What BM25 makes of one occurrence, by the length of the item's text."""
    lengths = [len(words(shop, other)) for other in range(len(shop.items))]
    return 2.2 / (1 + 1.2 * (0.25 + 0.75 * len(words(shop, item)) / (sum(lengths) / len(lengths))))


def of_words(shop, user, item):
    item_words, (weights, items_with) = words(shop, item), idf(shop)
    mine = Counter(word for event in shop.engaged if event.user == user for word in words(shop, event.item))
    norms = math.hypot(*(n * weights[w] for w, n in mine.items())) * math.hypot(*(weights[w] for w in item_words))
    matched = sum(mine[w] * weights[w] for w in item_words)
    return {
        **lifts("text_words", shop, user, item, words),
        "text_tfidf_cosine": ratio(sum(mine[w] * weights[w] ** 2 for w in item_words), norms),
        "text_bm25_history": ratio(matched, mine.total() if item_words else 0) * bm25_of(shop, item),
        "text_shared_rare_words": sum(w in mine and items_with[w] <= 2 for w in item_words),
    }


def of_phrases(shop, user, item):
    return lifts("text_phrases", shop, user, item, phrases)


def of_title(shop, _, item):
    title = shop.items[item]["title"]
    scripts = (
        sum("a" <= letter.lower() <= "z" for letter in title),
        sum("\u0430" <= c.lower() <= "\u044f" for c in title),
    )
    most = scripts.index(max(scripts)) + 1 if max(scripts) else 0
    return {"text_title_words": len(re.findall(r"[^\W_]+", title)), "text_title_script": most}


def of_time(shop, _, __):
    at = shop.request["requested_at"]
    return {"request_hour": at.hour, "request_weekday": at.isoweekday()}


def of_context(shop, _, __):
    vocabularies = shop.inventory.vocabularies
    return {f"context_{name}": code(shop.request[name], vocabularies.get(f"events.{name}")) for name in CONTEXT}


def of_query(shop, user, item):
    queries = [(e.day, e.timestamp, e.query) for e in shop.events if e.user == user and e.query is not None]
    if shop.request["query"] is not None:
        queries = [(shop.as_of, None, shop.request["query"])]
    if not queries:
        return {"text_bm25_query": NAN, "text_days_since_query": NAN}
    day, _, query = max(queries)
    shared, (weights, _) = set(query.lower().split()) & words(shop, item), idf(shop)
    return {
        "text_bm25_query": sum(weights[word] for word in shared) * bm25_of(shop, item),
        "text_days_since_query": shop.as_of - day,
    }


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def of_vectors(shop, user, item):
    pictures = [row["picture"] if row["picture"] and any(row["picture"]) else None for row in shop.items]
    mine = {}
    for event in shop.engaged:
        if event.user == user and pictures[event.item]:
            mine[event.item] = max(event.day, mine.get(event.item, event.day))
    names = [f"vector_picture_{name}" for name in ("nearest", "mean", "last")]
    if not mine or not pictures[item]:
        return dict.fromkeys(names, NAN)
    near = {other: cosine(pictures[item], pictures[other]) for other in mine}
    latest = [near[other] for other, day in mine.items() if day == max(mine.values())]
    return dict(zip(names, (max(near.values()), mean(list(near.values())), max(latest)), strict=True))


ORACLES = {
    "user": of_user,
    "item": of_item,
    "exposure": of_exposure,
    "offers": of_offers,
    "pair": of_pair,
    "pair_exposure": of_pair_exposure,
    "similar_users": of_similar_users,
    "ease": of_ease,
    "value": of_money,
    "user_category": of_value("category"),
    "user_item_attribute": lambda *arguments: of_value("brand")(*arguments) | of_value("size")(*arguments),
    "item_attribute": of_attributes("item_attribute", "items", ("brand", "size")),
    "profile_attribute": of_attributes("own_attribute", "users", ("age", "country")),
    "request_time": of_time,
    "context": of_context,
    "comments": of_comments,
    "text_title": of_title,
    "text_words": of_words,
    "text_phrases": of_phrases,
    "text_query": of_query,
    "vectors": of_vectors,
}
