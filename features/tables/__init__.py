"""Input tables: their contracts (`schemas`, `contracts`), and how types, ids, times and texts of files are read.

Column names of input tables are declared in `schemas` alone. Nothing here has a log, a code or a day number: a table
goes in, and comes out with its good rows in one type a column, its bad rows aside with the rules that they broke.
"""
