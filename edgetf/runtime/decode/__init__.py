"""Generating with an exported decoder: numpy and one runtime, never torch."""
