"""Many runs: the named studies, their cells and manifest, the worker that trains them, the rule that reads them.

May import runs and what is below it; knows nothing of tables and figures.
"""
