"""Contract kits for models and benchmarks, for us and for others; and the speed comparison."""
