"""One short module per rule: paths in, one call, paths out."""
