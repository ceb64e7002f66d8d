"""Where the paper's tables contradict themselves."""
