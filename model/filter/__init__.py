"""Which items are eligible: expression, text form, program, index."""
