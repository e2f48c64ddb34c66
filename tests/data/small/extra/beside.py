"""Found through a line of a .pth file."""

NAME = "beside"
