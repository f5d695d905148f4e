"""Recipes: the schema, overrides from the command line, and loading with all problems at once."""
