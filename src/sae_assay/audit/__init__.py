"""What an auditor runs: it reads the ledger and the artifacts as data, and trusts neither."""
