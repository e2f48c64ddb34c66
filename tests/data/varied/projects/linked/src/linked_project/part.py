import plain

NAME = plain.__name__
