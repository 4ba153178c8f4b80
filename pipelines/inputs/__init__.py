"""From files to a checked log: tables read and held against their contracts, the log folded file by file."""
