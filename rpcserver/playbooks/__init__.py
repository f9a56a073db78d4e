"""Playbooks of sessions: their rows, where their text comes from, and how they are played."""
