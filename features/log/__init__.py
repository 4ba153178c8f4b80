"""The event log on integer codes and days, and everything that is looked up in it as of a day. Contains no model.

`event_log` is what the other rooms use; below it lie the cells of daily counts (`engagements`, `interactions`), the
events that labels are made of (`label_events`), the rows that carry queries, comments or context (`raw_events`), and
indexes as of a day (`asof`, `return_gaps`, `history`). `inventory` says what a log offers to features; `offers` codes
the table of offers. Tables are checked before they come here; files are read and written by `pipelines`.
"""
