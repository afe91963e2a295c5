"""Addresses for machines and scripts, with their OpenAPI document."""
