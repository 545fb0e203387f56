#!/bin/bash
# The short run of tests/kill: the daemon is killed at random moments under load.
exec python3 "${EKV_SOURCE_DIR:?}/tests/kill" --kills 25 --seed "${EKV_SEED:-1}"
