"""Value formulas, which order results: formulas over task scores and fields, their text form and their programs."""
