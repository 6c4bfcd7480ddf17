"""The script that spark-submit submits: runs one job file."""

import sys

from ampel_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
