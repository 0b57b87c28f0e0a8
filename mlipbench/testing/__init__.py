"""Contract kits for models and benchmarks, for us and for others."""
