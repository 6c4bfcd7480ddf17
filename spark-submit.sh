#!/usr/bin/env bash
# Runs a job with Spark, after setting up what is missing.
#
#   ./spark-submit.sh JOB.yml [OPTION]...     the options are those of: ampel-spark run
#
#   MASTER                       local[*] (the default), local[4], local-cluster[2,1,1536], spark://HOST:PORT,
#                                yarn, k8s://HOST:PORT: each kind has its file in conf/spark
#   AMPEL_SPARK_DRIVER_MEMORY    such as 4g; half of the machine's memory and at most 8g, if not given
#   AMPEL_SPARK_PROPERTIES       a file of Spark properties that win over conf/spark
#   AMPEL_SPARK_LOG_LEVEL        WARN or INFO, to see what Spark says
#   and those of ./setup.sh
#
# Exit codes: 0 good, 1 the job failed, 2 usage, configuration or set-up, 3 done but for some objects.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${AMPEL_SPARK_VENV:-$project/.venv}

case ${1:-} in
    "" | -h | --help)
        sed -n '2,/^set /{s/^# \{0,1\}//p;}' "$0"
        exit $(($# == 0 ? 2 : 0))
        ;;
esac

"$project/setup.sh"
# one line of every JVM that runs Spark, for a module that Spark itself adds
exec "$venv/bin/python" -m ampel_spark.session submit "$project/jobs/run_job.py" "$@" \
    2> >(grep --line-buffered -v '^WARNING: Using incubator modules' >&2)
