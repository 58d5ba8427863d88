"""`python -m dynasaur_mcp` is `dynasaur-mcp`."""

import sys

from dynasaur_mcp.cli import main

if __name__ == "__main__":
    sys.exit(main())
