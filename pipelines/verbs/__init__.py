'''The verbs of the command line, one module each, and the gates of a promotion.

A verb is a function of the configuration and of checked inputs that returns plain values. Options and printing belong
to `pipelines.cli`; what two verbs share belongs to a room below (`check`, `train` and `evaluate` are there as well,
since other verbs use them). Verbs do not import each other, except `demo` and `nightly`, which run others, `project`,
which writes what `datasets` makes, and `prune`, which also removes what `vector_stores` says is unused.

A new verb, say `nightrank stock`:

1. `pipelines/verbs/stock.py` holds one public function, ``items_on_sale(inputs: Inputs, config: Config) -> dict``. It
   raises the errors of `features.errors`, whose kinds set the exit code.
2. A command in a module of `pipelines/cli` reads, calls and prints, with its imports inside, so that `--help` is
   quick::

       @command(project_app, ["nightrank stock"])
       def stock(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
           """Share of items on sale."""
           settings, inputs = open_inputs(config, overrides, allow_empty=False)
           report.result(items_on_sale(inputs, settings))
           return Closing("counted the items on sale")

   A script of your own may add it to `pipelines.cli.app.app` instead, and end with `pipelines.cli.app.main()`.
3. A test in `tests/pipelines/verbs`, and a row in the table of verbs in `pipelines/README.md`.

A new gate, say on scores of a share of requests:

1. A function that returns the outcome, or None where it does not apply (without a champion, say)::

       def covers_requests(evaluation: Evaluation, config: Config, champion: str | None) -> Gate | None:
           share = evaluation.n_requests / evaluation.in_window
           return Gate("enough requests are judged", share >= 0.1, f"{share:.0%} of the window's requests")

2. In `pipelines/verbs/gates.py` it joins `GATES`, and its threshold `PromotionConfig`. Another package offers it under
   the entry point group `nightrank.gates` instead: ``covers = "my_package:covers_requests"``.
3. A test in `tests/pipelines/verbs/test_gates.py`: one evaluation that passes, one that fails.
'''
