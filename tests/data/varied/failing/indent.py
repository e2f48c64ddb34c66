def function():
	return 1
        return 2
