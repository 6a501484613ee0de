"""Recording: requests and answers in files, for replay and comparison."""
