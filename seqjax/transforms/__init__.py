"""Cells made from cells."""
