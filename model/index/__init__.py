"""The IVF index: clusters, codes and calibration."""
