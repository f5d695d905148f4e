"""Running text: documents from many sources, tokenizers made of them, and packed sequences."""
