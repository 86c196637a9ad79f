"""The machine around a run: mistakes, processes, files on disk and gs://, compiled programs, the user's files.

Knows nothing of networks and training, and imports no other room.
"""
