"""One room a paper: how its data are opened, its samples, its network's inputs, its references and its maps."""
