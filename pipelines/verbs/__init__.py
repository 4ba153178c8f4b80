'''The verbs of the command line, one module each, and the gates of a promotion.

A verb is a function of the configuration and of checked inputs that returns plain values. Options and printing belong
to `pipelines.cli`; what two verbs share belongs to a room below (`check`, `train` and `evaluate` are there as well,
since other verbs use them). Verbs do not import each other, except `demo`, which runs them all, and `project`, which
writes what `datasets` makes.

A new verb, say `nightrank stock`:

1. `pipelines/verbs/stock.py` holds one public function, ``stock(inputs: Inputs, config: Config) -> dict[str, Any]``.
   It raises the errors of `features.errors`, whose kinds set the exit code.
2. A command in `pipelines/cli/app.py` reads, calls and prints; its imports stand inside, so that `--help` is quick::

       @app.command("stock")
       def stock_command(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> None:
           """Share of items on sale."""
           settings, inputs = open_inputs(config, overrides, allow_empty=False)
           report.result(stock(inputs, settings))

   A script of your own may add it to the same `app`, and end with `pipelines.cli.app.main()`.
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
