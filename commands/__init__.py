"""What `meshfold` does, one command a file."""
