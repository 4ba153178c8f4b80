"""What every room imports: the configuration, progress and messages, exit codes, and objects of other packages.

No room is imported from here, and nothing here reads a table or writes a result.
"""
