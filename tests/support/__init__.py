"""The test bed: Pythons, MPIs, environments, an installed pybundle, and processes that can't hang.

Everything it makes lies below ``.test/`` in the clone and is made once.
"""
