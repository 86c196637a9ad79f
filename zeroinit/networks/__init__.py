"""What a row of METHODS does inside a network: layers, blocks, and the networks that are built of them.

May import methods and system; knows nothing of data and training.
"""
