"""The public release of paper 004 as a sample store: `schema` and `records`, `labels` of ISMN, `conversion`."""
