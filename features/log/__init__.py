"""The event log: sorted cells, indexes as of a day, labels, and the inventory of what a log offers. Knows no model."""
