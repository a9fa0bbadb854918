"""smnb: satellite soil moisture retrieval with convolutional networks, driven by notebooks."""

__version__ = "0.1.0"
