# Written for Python 2, and shipped by mistake, as real packages do.
print "no"
