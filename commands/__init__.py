"""The commands of `meshfold`, one in each file."""
