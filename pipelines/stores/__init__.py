"""What lies on disk: files written whole, spilled tables, vectors, the folded log, kept rows, published rankings."""
