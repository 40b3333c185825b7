"""Instruction fine-tuning: a language model learns from requests and the answers that are wanted."""
