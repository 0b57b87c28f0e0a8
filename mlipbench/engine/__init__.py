"""Suites become jobs, jobs become results in the store."""
