"""The IVF index: clusters, codes, calibration."""
