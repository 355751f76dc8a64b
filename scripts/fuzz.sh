#!/usr/bin/env bash
# Fuzzes the readers with libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer: installs clang if it is
# missing, builds the preset `fuzz`, makes the seed corpus and runs one target after the other.
#   scripts/fuzz.sh [format|all] [seconds for each] [folder for corpora, logs and findings]
# Prints a summary of each target. An input that breaks a promise ends its target and is kept in FOLDER/FORMAT/found.
set -euo pipefail
cd "$(dirname "$0")/.."

formats=${1:-all}
seconds=${2:-60}
folder=${3:-build/fuzz/campaign}
[ "$formats" != all ] || formats="pickle zip torch_file safetensors json npy gzip idx image tar yaml runs"

if ! command -v clang++ >/dev/null; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq clang >/dev/null  # with the packages that it recommends: the run-time libraries
fi
cmake --preset fuzz --log-level=WARNING
cmake --build --preset fuzz -- --quiet
seeds=build/fuzz/seeds
rm -rf "$seeds"
python3 tests/hostile/make_hostile_corpus.py "$seeds"
cp tests/golden/checkpoints/*.pt "$seeds/torch_file"
cp tests/golden/safetensors/*.safetensors "$seeds/safetensors"
cp -r "$seeds/dataset" "$seeds/yaml"

failed=0
for format in $formats; do
  place=$folder/$format
  mkdir -p "$place/corpus" "$place/found"
  # At most 8 KiB: small inputs reach all of the code and run fast. The tests replay the large ones of the corpus.
  if ! "build/fuzz/bin/${format}_fuzz" -max_total_time="$seconds" -max_len=8192 -timeout=2 -rss_limit_mb=1024 \
    -malloc_limit_mb=256 -print_final_stats=1 -artifact_prefix="$place/found/" \
    "$place/corpus" "$seeds/$format" >"$place/log" 2>&1; then
    failed=1
    tail -n 40 "$place/log" >&2
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$place/log")
  covered=$(grep -o 'cov: [0-9]*' "$place/log" | tail -n 1)
  printf '%s: %s executions, %s, corpus of %s inputs, %s found\n' "$format" "${executions:-?}" "${covered:-cov: ?}" \
    "$(find "$place/corpus" -type f | wc -l)" "$(find "$place/found" -type f | wc -l)"
done
exit "$failed"
