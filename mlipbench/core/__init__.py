"""The nouns: frozen, small, no input or output."""
