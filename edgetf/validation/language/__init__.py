"""Is an exported decoder right, and is it fast: perplexity, distance from its teacher, and tokens a second."""
