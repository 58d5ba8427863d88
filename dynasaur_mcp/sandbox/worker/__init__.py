"""The program inside a sandbox: standard library and pydantic only, and `wire` of ours.

Whoever opens a session waits for its start, and most of that is imports. So what a worker imports before it has run
something does without the heavy ones: `typing` (a type checker takes a local TYPE_CHECKING for the real one), `socket`
(`_socket` is the part in C), `ast` (`_ast` as well).
"""
