#!/bin/bash
# What the core costs a Cortex-M4 stays within the bounds that tests/size names.
set -u
: "${EKV_SOURCE_DIR:?}"
exec "$EKV_SOURCE_DIR/tests/size" --goals
