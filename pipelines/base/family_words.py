"""What a feature family says of an item, in words for a person who reads a list."""

from collections.abc import Sequence

__all__ = ["family_words", "reason_words"]

_WORDS = {
    "comments": "what people wrote about it",
    "context": "what came with the request",
    "ease": "it goes with what they buy",
    "exposure": "how often it is taken when it is shown",
    "interest": "its text is like what they buy",
    "item": "it sells well lately",
    "item_attribute": "what kind of product it is",
    "offers": "it is on offer",
    "pair": "when they last had it",
    "pair_exposure": "how often it was shown to them",
    "profile_attribute": "what is known of the user",
    "request": "several generators proposed it",
    "request_time": "the time of the request",
    "similar_users": "people with a like history buy it",
    "sources": "several generators proposed it",
    "text_phrases": "its words are like what they buy",
    "text_query": "it answers what they searched for",
    "text_title": "its words are like what they buy",
    "text_words": "its words are like what they buy",
    "user": "how much they buy",
    "user_category": "they buy in its category",
    "user_item_attribute": "they buy its brand or kind",
    "value": "what it costs",
    "vectors": "its vector is like those of what they buy",
}


def family_words(family: str) -> str:
    """A feature family as a person reads it; its name where it has no words.

    >>> family_words("pair_exposure")
    'how often it was shown to them'
    """
    return _WORDS.get(family, family)


def reason_words(families: Sequence[str]) -> str:
    """Several families in one line, each sentence once."""
    return "; ".join(dict.fromkeys(map(family_words, families)))
