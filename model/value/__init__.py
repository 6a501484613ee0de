"""What results are ordered by: formulas over task scores, their text form and their programs."""
