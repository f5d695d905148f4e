"""Is the exported file right, and is it fast: measured in the runtime that runs it, against its teacher."""
