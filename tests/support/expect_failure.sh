#!/bin/sh
# expect_failure.sh PATTERN COMMAND...: succeeds if the command fails and its output has a line that matches.
pattern=$1
shift
if output=$("$@" 2>&1); then
  printf '%s\nexpected a failure, but the command succeeded\n' "$output"
  exit 1
fi
printf '%s\n' "$output"
printf '%s\n' "$output" | grep -Eq -- "$pattern" || {
  echo "the output has no line that matches: $pattern"
  exit 1
}
