"""Recipes of `task: language_modeling`: a decoder teacher, running text, and a student that phones accept."""
