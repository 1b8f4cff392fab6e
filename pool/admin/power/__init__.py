"""The operator's commands for power."""
