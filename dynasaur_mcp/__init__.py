"""dynasaur-mcp: an MCP server whose tools are a library of Python functions that its clients extend while it runs."""

__version__ = "0.1.0"
