"""Ready-made workflows for a CI that measures."""
