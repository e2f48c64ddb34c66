"""Data in all the places."""
