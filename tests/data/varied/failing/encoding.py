NAME = "ÿ"
