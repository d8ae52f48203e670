"""`make package`: write the generated files of package/; with --check only say which differ."""

import sys

from generate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
