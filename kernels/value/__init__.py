"""Value formulas."""
