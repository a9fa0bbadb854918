"""Hu, Xu and Yu 2018: AMSR-E brightness temperatures to daily global maps, a CNN against an SVR."""
