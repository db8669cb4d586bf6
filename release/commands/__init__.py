"""Each command as it is typed; the rooms behind them do the work."""
