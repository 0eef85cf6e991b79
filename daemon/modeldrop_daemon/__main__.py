"""`python -m modeldrop_daemon` is `modeldropd`, where the program itself is not on the path."""

import sys

from modeldrop_daemon.main import main

if __name__ == "__main__":
    sys.exit(main())
