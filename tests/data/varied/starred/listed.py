NAME = "listed"
