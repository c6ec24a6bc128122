"""State topics: the newest document of each notebook, execution and dataset, in compacted topics.

They are made of the read models, which are told by positions what has changed. See decision 0044.
"""
