"""The manual pages, and what writes them.

`man1`, `man7` and `man8` are what packages install; `python -m man` writes them. Names, synopses,
descriptions and options come from the command tree, all else from the files in `source`, one a
page. A section there replaces the generated one of the same title, and a section of
`source/PROGRAM-COMMAND.N` is part of each command's page that has none of its own.
"""
