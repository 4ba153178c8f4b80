"""Input tables: their contracts (`schemas`, `contracts`), and how types, ids, times and texts of files are read.

Columns of tables that come in and go out are declared in `schemas`, and those of the frames in between in `frames`:
name, dtype and meaning of a column stand there and nowhere else. Nothing here has a log: a table goes in, and comes out
with its good rows in one type a column, its bad rows aside with the rules that they broke.
"""
