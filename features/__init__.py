"""The feature side of nightrank: from raw tables to the rows that a ranker sees. Imports no other package of ours.

What lies here, lowest first; a room imports only from those above it in this list:

- `errors`, `config`, `calendar`: kinds of error, the configuration's sections, integer days between batch cut-offs.
- `tables`: contracts of the input tables, the columns of all frames that functions pass on, and how types, ids, times
  and texts are read. No log.
- `log`: the event log on integer codes and days, indexes as of a day, the inventory of what a log offers. No model.
- `requests`: which user is ranked for on which day, what the user then did, and how days are split.
- `signals`: models of behaviour as of a day, and the base classes of signals, generators and families.
- `candidates`: all generators together: their union, filters and cut, and their recall.
- `families`: feature families, their registry and the feature manifest.
- `assemble`: candidates and features of requests, in portions; `shop`: a simulated shop for tests and methods.

What may not lie here: files, environment, clocks, tracking (`pipelines`), encoders and rankers. Public are the names in
the `__all__` of each module. To add a family, a generator or a signal, follow the recipe in the docstring of
`features.families`, `features.candidates` or `features.signals`.
"""
