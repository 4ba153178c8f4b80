"""What every room imports: the configuration, progress, how commands end. Imports no other room."""
