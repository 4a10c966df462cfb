"""`python -m elastickv`: what the Snakemake rules call."""

import sys

from elastickv.cli import main

if __name__ == "__main__":
    sys.exit(main())
