HELPED = True
