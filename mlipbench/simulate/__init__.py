"""Many replicas in motion at once."""
