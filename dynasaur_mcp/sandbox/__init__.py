"""Where code runs. Knows neither MCP nor the library."""
