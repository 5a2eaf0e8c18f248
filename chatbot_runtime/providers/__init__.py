"""Providers of answers behind the OpenAI-compatible API."""
