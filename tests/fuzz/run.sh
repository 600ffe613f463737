#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each of them, for a number of seconds or of executions.
#   tests/fuzz/run.sh --seconds 7                    # all targets, what CI does: the same inputs in every run
#   tests/fuzz/run.sh --executions 10000000 config   # one family, the long run
# A finding stops the script and stays in build/fuzz/findings. Without clang and libFuzzer the
# script prints the name of every target as skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

limit=(-max_total_time=7 -seed=1)
targets=()
while (($# > 0)); do
  case $1 in
    --seconds) limit=("-max_total_time=$2" -seed=1); shift 2 ;;
    --executions) limit=("-runs=$2"); shift 2 ;;
    -*) echo "usage: $0 [--seconds N | --executions N] [TARGET...]" >&2; exit 2 ;;
    *) targets+=("$1"); shift ;;
  esac
done
((${#targets[@]} > 0)) || targets=(config sweep set_values dataset manifest branch vote shard metrics flight trace profile)

clang=$(command -v clang++ || command -v clang++-14 || true)
if [[ -z $clang ]] || ! echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
    "$clang" -fsanitize=fuzzer,address -x c++ - -o /dev/null 2> /dev/null; then
  printf 'skipped: fuzz_%s (no clang with libFuzzer: apt-get install clang libclang-rt-14-dev)\n' "${targets[@]}"
  exit 0
fi

build=build/fuzz
cmake -S . -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$clang" -DFORETOKEN_FUZZ=ON -DCMAKE_BUILD_TYPE=None > /dev/null
cmake --build "$build" --target "${targets[@]/#/fuzz_}"
mkdir -p "$build/findings"
export UBSAN_OPTIONS=print_stacktrace=1
rows=()
for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target"
  options=(-max_len=16384 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1
    "-artifact_prefix=$build/findings/$target-")
  dictionary=tests/fuzz/$target.dict
  [[ -f $dictionary ]] && options+=("-dict=$dictionary")
  start=$SECONDS
  log=$build/$target.log
  if ! "$build/bin/fuzz_$target" "${options[@]}" "${limit[@]}" "$build/corpus/$target" "tests/fuzz/seeds/$target" \
      > "$log" 2>&1; then
    tail -40 "$log"
    echo "fuzz_$target: a finding, see $build/findings" >&2
    exit 1
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
  rows+=("| $target | $executions | $((SECONDS - start)) s | $peak MB | none |")
done
echo "| target | executions | time | peak memory | findings |"
echo "|---|---|---|---|---|"
printf '%s\n' "${rows[@]}"
