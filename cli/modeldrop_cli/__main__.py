"""`python -m modeldrop_cli` is `modeldrop`, where the program itself is not on the path."""

import sys

from modeldrop_cli.main import program

if __name__ == "__main__":
    sys.exit(program())
