"""The program inside a sandbox: standard library and pydantic only, and `wire` of ours."""
