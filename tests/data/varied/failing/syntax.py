GOOD = 1
if GOOD
    BAD = 2
