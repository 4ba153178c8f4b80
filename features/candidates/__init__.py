"""Candidates: the items that a request is ranked over, at most `candidates.max_per_request` each.

`catalog` lists all generators, and holds those that are made of no signal; `supplied` reads a table of candidates of
your own; `union` joins what generators propose and filters it, `cut` scores the union and keeps the best, `recall`
measures what each generator finds. No feature is made here but each generator's rank and score.

To add a generator, subclass `Generator` and register it; this one proposes the cheapest items:

    from features.candidates.catalog import register
    from features.signals.generator import Generator
    from features.signals.top_k import top_k

    @register
    class Cheapest(Generator):
        name, meaning = "cheapest", "the cheapest items of the catalogue"

        def propose(self, requests, history):
            items = self.inputs.log.items.drop_nulls("price").select("item", score=1 / (1 + pl.col("price")))
            return top_k(requests.select("request").join(items, how="cross"), self.most)

Then give it a quota: ``candidates: {extra: {cheapest: 20}}``. From another package, offer the class under the entry
point group `nightrank.generators` instead of registering it. Its columns are `cheapest_rank` and `cheapest_score`.
"""
