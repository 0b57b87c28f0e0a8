"""`python -m mlipbench` is the same as `mlipbench`."""

from mlipbench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
