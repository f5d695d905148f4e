"""The stages of language recipes."""
