"""The distillers: a method a file."""
