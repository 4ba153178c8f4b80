"""Feature families: what is known about users, items, pairs and texts strictly before each row's as-of."""
