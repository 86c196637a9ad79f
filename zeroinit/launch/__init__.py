"""Where the workers of a study run: on this machine (local), on Slurm (slurm), on TPU slices (tpu).

May import everything else; nothing imports it.
"""
