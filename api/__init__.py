"""The door for Python: what `import meshfold` offers."""
