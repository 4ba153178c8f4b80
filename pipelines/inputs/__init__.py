"""From files to checked tables and the event log: reading, contracts, the quarantine, folding file by file.

Nothing here depends on a model or on a version. The contracts themselves are in `features.tables`.
"""
