NAME = "outside"
