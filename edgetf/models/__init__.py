"""Teachers and students: loading, sizing, and where a family keeps its heads, feed-forwards and embeddings."""
