import circular.reader

VALUE = 1
