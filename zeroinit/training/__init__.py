"""One update of one network: config -> recipe (network, schedule, devices) -> State -> step -> State.

May import networks and data; knows nothing of directories, which are the business of runs.
"""
