"""A simulated shop: tables as a real shop would export them, with the probabilities behind them.

`simulator` runs the shop day by day, `truth` holds what users like and items offer, `words` the texts in five
languages. For tests, demonstrations and comparisons of methods; nothing else may import it.
"""
