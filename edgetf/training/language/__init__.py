"""Training of language models: packed sequences, what the teacher says of them, and the objective of a recipe."""
