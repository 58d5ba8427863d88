"""The MCP face: the only package that imports `mcp`."""
