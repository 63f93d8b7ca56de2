"""Every fault that can be caused, under a steady load, with an account at the end.

The short form, one round of each, is part of the usual run of the tests. The long form is
`python -m tests.faults`.
"""
