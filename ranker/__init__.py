"""LambdaMART over behaviour and interest columns, its metrics and comparisons. No torch here."""
