"""Is *your* interatomic potential safe for *your* system? With error bars, offline, on a laptop."""

__version__ = "0.1.0"
