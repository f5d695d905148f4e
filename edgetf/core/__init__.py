"""What everything else stands on: errors, metrics, artifacts, device profiles, budgets. No heavy import."""
