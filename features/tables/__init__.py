"""Tables as people bring them: contracts, types, ids, times and texts. Knows no log."""
