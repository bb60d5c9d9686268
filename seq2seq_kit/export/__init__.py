"""A SavedModel from string to string, its metadata, and the check of what one may hold."""
