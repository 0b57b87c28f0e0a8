"""Files become data sets, suites and model entries."""
