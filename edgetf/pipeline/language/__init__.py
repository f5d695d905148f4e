"""Plan and run a language recipe: from a decoder teacher to validated variants of its student."""
