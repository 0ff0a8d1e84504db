"""Leadglass: a secure PACS and PACS gateway."""
