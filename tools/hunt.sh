#!/bin/sh
# Tries random histories of a project, until one breaks a promise or the minutes are over:
#   MINUTES=10 sh tools/hunt.sh PYTHON
end=$(($(date +%s) + ${MINUTES:-10} * 60))
round=0
while [ "$(date +%s)" -lt "$end" ]; do
    round=$((round + 1))
    seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    echo "hunt: round $round, seed $seed"
    "$1" -m pytest tests/model -q --hypothesis-profile=hunt --hypothesis-seed="$seed" || {
        echo "hunt: must hold in every history. Received: the failure above. Repeat it with"
        echo "  make test ARGS=\"tests/model --hypothesis-profile=hunt --hypothesis-seed=$seed\""
        exit 1
    }
done
echo "hunt: $round rounds, every promise held"
