"""The stages: each reads one sealed artifact and writes the next."""
