"""The reference linear atomic cluster expansion: basis, kernels, fit and file, on numpy and numba alone."""
