# Sourced by scripts, after their first comment: with --help as first argument, prints that comment and ends.
if [[ ${1-} == -h || ${1-} == --help ]]; then
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[1]}"
  exit 0
fi
