"""One module a verb of the command line, beside those that a room of its own holds."""
