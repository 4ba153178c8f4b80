"""The command line: options, commands, what a person reads. Nothing imports it."""
