"""The Python interface: implementation of the names in `import meshfold`."""
