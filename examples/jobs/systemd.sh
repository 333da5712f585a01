#!/bin/sh
# A training as a service of the user's systemd, started again after a crash: sh systemd.sh
#
# Its messages: journalctl --user -u charlstm -f. To save and stop it: systemctl --user stop
# charlstm. The same command continues the run.

exec systemd-run --user --unit=charlstm --working-directory="$PWD" \
    --property=Restart=on-failure --property=RestartSec=60 --property=TimeoutStopSec=120 \
    --property="RestartPreventExitStatus=1 2 143" --property="SuccessExitStatus=143" \
    "$(command -v charlstm)" train input.txt --epochs 50 --resume
