"""The workloads, one a file; `workload.py` says what they hold."""
