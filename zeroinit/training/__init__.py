"""One update of one network: config -> recipe (network, schedule, devices) -> State -> step -> State.

May import networks, data and what is below them; knows nothing of directories, which are the business of runs.
"""
