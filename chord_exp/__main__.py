"""`python -m chord_exp`: run, plan or export an experiment."""

import sys

from chord_exp.cli import main

if __name__ == "__main__":
    sys.exit(main())
