"""Rows to what a person or a machine reads: tables, JUnit, Markdown, model cards, progress."""
