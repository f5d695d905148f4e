"""Recipe to artifacts: the plan, the cache, the order of the stages and the fan-out into variants."""
