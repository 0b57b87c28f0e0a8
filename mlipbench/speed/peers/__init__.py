"""Scripts that run under the interpreter of another program; nothing here is imported."""
