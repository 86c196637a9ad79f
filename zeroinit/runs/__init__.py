"""One run: the loop around updates, and the directory in which it leaves what is needed to go on and to compare.

May import training and what is below it; knows nothing of other runs.
"""
