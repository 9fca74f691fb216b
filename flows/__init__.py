"""Order, retries and the command line: the only place that knows both models and the ledger."""
