"""How often does the gate err: equally good models that it stops, worse ones that it lets pass?

`python -m mlipbench.power` trains models that are alike, and measures both.
"""
