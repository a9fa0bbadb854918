"""The public release of paper 004 as a sample store: `records`, `labels` of ISMN, `conversion`."""
