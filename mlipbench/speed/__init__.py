"""How fast is it, beside what? Side by side in one run, one thread each, medians and ratios.

`python -m mlipbench.speed` prints tables and writes `reports/speed.json` and `reports/speed.html`. Absolute times
depend on the machine and on what else runs there; the ratios are what is compared with the bars.
"""
