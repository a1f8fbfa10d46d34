"""Jinja templates that ship with convx: the model card, and the skeleton of a new plugin."""

CARD = "card.md.j2"
