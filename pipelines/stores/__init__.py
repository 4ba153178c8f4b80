"""What lies on disk: files written whole, mapped tables, text vectors, the folded log, kept rows, published rankings.

A store knows formats and folders, and neither models nor how its content was computed. Bundles of versions belong to
`pipelines.registry`.
"""
