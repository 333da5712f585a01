#!/bin/sh
# A training on one computer that survives the terminal: sh nohup.sh
#
# Its messages are in train.log, its process in train.pid. To save and stop it:
# kill "$(cat train.pid)". The same command continues the run.

nohup charlstm train input.txt --epochs 50 --resume >train.out 2>>train.log &
echo $! >train.pid
