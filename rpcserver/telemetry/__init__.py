"""What an operator sees: logs, metrics, traces, and a watchdog."""
