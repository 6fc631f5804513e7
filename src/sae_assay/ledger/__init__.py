"""The ledger ties every artifact to the bytes that made it, and tells Snakemake by content what is current."""
