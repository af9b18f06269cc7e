"""Callbacks for other people's trainers."""
